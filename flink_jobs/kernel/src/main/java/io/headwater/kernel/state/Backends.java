package io.headwater.kernel.state;

import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.StateChangelogOptions;

/** What a job's state backend does with what it is given. */
public final class Backends {

  private Backends() {}

  /** Whether it keeps objects; others, as RocksDB, read or write a whole entry at each access. */
  public static boolean keepsObjects(ReadableConfig config) {
    String backend = config.get(StateBackendOptions.STATE_BACKEND);
    boolean heap =
        backend.equalsIgnoreCase("hashmap") || backend.endsWith(".HashMapStateBackendFactory");
    return heap && !config.get(StateChangelogOptions.ENABLE_STATE_CHANGE_LOG);
  }
}
