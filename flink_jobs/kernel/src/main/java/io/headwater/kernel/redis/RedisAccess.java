package io.headwater.kernel.redis;

import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.annotation.Nullable;
import javax.net.ssl.SSLParameters;
import org.apache.flink.table.api.ValidationException;
import redis.clients.jedis.ClientSetInfoConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.util.JedisURIHelper;

/** How a Redis is reached, for all that have a URL of one. */
public final class RedisAccess {

  private RedisAccess() {}

  /** The URL of one; ValidationException, which says whose it is, for another text. */
  public static URI url(@Nullable String text, String whose) {
    try {
      URI url = new URI(String.valueOf(text));
      if (url.getHost() != null
          && (JedisURIHelper.isRedisScheme(url) || JedisURIHelper.isRedisSSLScheme(url))) {
        return url;
      }
    } catch (URISyntaxException e) {
      // Its message has the whole text, with the password.
    }
    throw new ValidationException(
        whose
            + ": expected redis://host:port, or rediss:// for TLS, with a host name of letters,"
            + " digits, '-' and '.'");
  }

  /** Its host and port. */
  public static HostAndPort server(URI url) {
    return new HostAndPort(url.getHost(), url.getPort() == -1 ? 6379 : url.getPort());
  }

  /**
   * Its database and its user, those of the URL unless others are given, and TLS that checks the
   * name of the host where it is {@code rediss}.
   */
  public static JedisClientConfig of(
      URI url, @Nullable String username, @Nullable String passwordFile, int timeoutMs) {
    DefaultJedisClientConfig.Builder builder =
        DefaultJedisClientConfig.builder()
            .user(username == null ? JedisURIHelper.getUser(url) : username)
            .password(password(url, passwordFile))
            .database(JedisURIHelper.getDBIndex(url))
            .connectionTimeoutMillis(timeoutMs)
            .socketTimeoutMillis(timeoutMs)
            // AUTH and no HELLO, which servers before Redis 6 do not know.
            .serverDefaultProtocol()
            .clientSetInfoConfig(ClientSetInfoConfig.DISABLED);
    if (JedisURIHelper.isRedisSSLScheme(url)) {
      SSLParameters checkHostName = new SSLParameters();
      checkHostName.setEndpointIdentificationAlgorithm("HTTPS");
      builder.ssl(true).sslParameters(checkHostName);
    }
    return builder.build();
  }

  @Nullable
  private static String password(URI url, @Nullable String passwordFile) {
    if (passwordFile == null) {
      return JedisURIHelper.getPassword(url);
    }
    try {
      return Files.readString(Path.of(passwordFile)).strip();
    } catch (IOException e) {
      throw new IllegalStateException("cannot read 'password-file' %s".formatted(passwordFile), e);
    }
  }
}
