package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.Connection;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.providers.ClusterConnectionProvider;

/** One writer's connection to a Redis, or its connections to a cluster, with its script there. */
final class RedisLink implements AutoCloseable {

  private static final Logger LOG = LoggerFactory.getLogger(RedisLink.class);

  private final AutoCloseable client;
  private final Supplier<AbstractPipeline> pipelines;

  /** The script's name. */
  final byte[] script;

  private RedisLink(AutoCloseable client, Supplier<AbstractPipeline> pipelines, String script) {
    this.client = client;
    this.pipelines = pipelines;
    this.script = script.getBytes(ISO_8859_1);
  }

  static RedisLink open(RedisSinkConfig config, String script) {
    HostAndPort server = RedisAccess.server(config.url());
    return config.cluster()
        ? openCluster(config, server, script)
        : openServer(config, server, script);
  }

  private static RedisLink openServer(RedisSinkConfig config, HostAndPort server, String script) {
    Connection connection = new Connection(server, access(config));
    try {
      // Not closed, since that would close the connection.
      String name = new Jedis(connection).scriptLoad(script);
      // What has not left yet is not to be sent, which a server that hangs would not take.
      return new RedisLink(
          connection::forceDisconnect, () -> new Pipeline(connection, false), name);
    } catch (RuntimeException e) {
      close(connection);
      throw e;
    }
  }

  private static JedisClientConfig access(RedisSinkConfig config) {
    return RedisAccess.of(
        config.url(), config.username(), config.passwordFile(), config.timeoutMs());
  }

  private static RedisLink openCluster(RedisSinkConfig config, HostAndPort server, String script) {
    // One connection to each node, of which nothing but this writer knows.
    ConnectionPoolConfig pool = new ConnectionPoolConfig();
    pool.setJmxEnabled(false);
    pool.setTimeBetweenEvictionRuns(Duration.ofMillis(-1));
    Nodes nodes = new Nodes(server, access(config), pool);
    RedisClusterClient cluster =
        RedisClusterClient.builder()
            .nodes(Set.of(server))
            .connectionProvider(nodes)
            .clientConfig(access(config))
            .build();
    try {
      return new RedisLink(
          () -> {
            nodes.cutOff();
            cluster.close();
          },
          cluster::pipelined,
          cluster.scriptLoad(script));
    } catch (RuntimeException e) {
      close(cluster);
      throw e;
    }
  }

  /**
   * Commands to be sent together. Several pipelines of one server are answered in the order in
   * which they were filled, and are to be synchronised in that order; a cluster's are not.
   */
  AbstractPipeline pipelined() {
    return pipelines.get();
  }

  @Override
  public void close() {
    close(client);
  }

  /** The connections to a cluster's nodes; its pools know of none that is in use. */
  private static final class Nodes extends ClusterConnectionProvider {

    private final Set<Connection> given = ConcurrentHashMap.newKeySet();

    Nodes(HostAndPort server, JedisClientConfig access, ConnectionPoolConfig pool) {
      super(Set.of(server), access, pool);
    }

    @Override
    public Connection getConnection(HostAndPort node) {
      Connection connection = super.getConnection(node);
      given.add(connection);
      return connection;
    }

    /** Whoever writes to one, or reads from it, gets an error. */
    void cutOff() {
      given.forEach(connection -> RedisLink.close(connection::forceDisconnect));
    }
  }

  /** Closes quietly. */
  static void close(AutoCloseable client) {
    try {
      client.close();
    } catch (Exception e) {
      LOG.debug("closing a broken connection", e);
    }
  }
}
