package io.headwater.kernel.redis;

import java.io.Serializable;
import java.net.URI;
import java.util.List;
import javax.annotation.Nullable;

/** What the options of a table say, checked. */
record RedisSinkConfig(
    URI url,
    @Nullable String username,
    @Nullable String passwordFile,
    boolean cluster,
    int replicas,
    String project,
    String view,
    long epoch,
    List<Column> keys,
    Column eventTime,
    @Nullable Column deleted,
    @Nullable Column trace,
    List<Column> features,
    int batchSize,
    int lingerMs,
    int timeoutMs,
    int retries)
    implements Serializable {

  /** Names the server without the password that the URL may hold. */
  String server() {
    return RedisAccess.server(url).toString();
  }

  /** Says nothing of the URL, see {@link #server}. */
  @Override
  public String toString() {
    return "redis " + view;
  }
}
