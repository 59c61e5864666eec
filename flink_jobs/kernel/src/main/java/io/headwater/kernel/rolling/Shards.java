package io.headwater.kernel.rolling;

import io.headwater.kernel.state.Backends;
import org.apache.flink.configuration.ReadableConfig;

/** Over how many shards the keys of a view are spread. */
final class Shards {

  /** A shard for each hash of a key. */
  static final int OF_EACH = 0;

  /** The whole partition is one key, as long as a call names no columns of keys. */
  static final int OF_ONE_KEY = 1;

  /**
   * On the heap: few enough that a million keys are hundreds a shard, and so many that a hundred
   * tasks share them evenly.
   */
  static final int ON_HEAP = 4096;

  private Shards() {}

  /** A backend that does not keep objects reads or writes a whole shard for each row. */
  static int of(ReadableConfig config) {
    return Backends.keepsObjects(config) ? ON_HEAP : OF_EACH;
  }

  static String told(int shards) {
    return switch (shards) {
      case OF_EACH -> "a shard for each";
      case OF_ONE_KEY -> "partitions of their own";
      default -> shards + " shards";
    };
  }
}
