package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Set;
import java.util.function.Supplier;
import javax.net.ssl.SSLParameters;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.ClientSetInfoConfig;
import redis.clients.jedis.Connection;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.util.JedisURIHelper;

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
    HostAndPort server = new HostAndPort(config.url().getHost(), config.port());
    return config.cluster()
        ? openCluster(config, server, script)
        : openServer(config, server, script);
  }

  private static RedisLink openServer(RedisSinkConfig config, HostAndPort server, String script) {
    Connection connection = new Connection(server, clientConfig(config));
    try {
      // Not closed, since that would close the connection.
      String name = new Jedis(connection).scriptLoad(script);
      return new RedisLink(connection, () -> new Pipeline(connection, false), name);
    } catch (RuntimeException e) {
      close(connection);
      throw e;
    }
  }

  private static RedisLink openCluster(RedisSinkConfig config, HostAndPort server, String script) {
    // One connection to each node, of which nothing but this writer knows.
    ConnectionPoolConfig pool = new ConnectionPoolConfig();
    pool.setJmxEnabled(false);
    pool.setTimeBetweenEvictionRuns(Duration.ofMillis(-1));
    RedisClusterClient cluster =
        RedisClusterClient.builder()
            .nodes(Set.of(server))
            .clientConfig(clientConfig(config))
            .poolConfig(pool)
            .build();
    try {
      return new RedisLink(cluster, cluster::pipelined, cluster.scriptLoad(script));
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

  /** Closes quietly. */
  static void close(AutoCloseable client) {
    try {
      client.close();
    } catch (Exception e) {
      LOG.debug("closing a broken connection", e);
    }
  }

  private static JedisClientConfig clientConfig(RedisSinkConfig config) {
    String user = config.username();
    String password = JedisURIHelper.getPassword(config.url());
    if (user == null) {
      user = JedisURIHelper.getUser(config.url());
    }
    if (config.passwordFile() != null) {
      try {
        password = Files.readString(Path.of(config.passwordFile())).strip();
      } catch (IOException e) {
        throw new IllegalStateException(
            "cannot read 'password-file' %s".formatted(config.passwordFile()), e);
      }
    }
    DefaultJedisClientConfig.Builder builder =
        DefaultJedisClientConfig.builder()
            .user(user)
            .password(password)
            .database(JedisURIHelper.getDBIndex(config.url()))
            .connectionTimeoutMillis(config.timeoutMs())
            .socketTimeoutMillis(config.timeoutMs())
            // AUTH and no HELLO, which servers before Redis 6 do not know.
            .serverDefaultProtocol()
            .clientSetInfoConfig(ClientSetInfoConfig.DISABLED);
    if (JedisURIHelper.isRedisSSLScheme(config.url())) {
      SSLParameters checkHostName = new SSLParameters();
      checkHostName.setEndpointIdentificationAlgorithm("HTTPS");
      builder.ssl(true).sslParameters(checkHostName);
    }
    return builder.build();
  }
}
