package io.headwater.kernel.redis;

import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import org.junit.jupiter.api.Assumptions;
import redis.clients.jedis.Jedis;

/** A real redis-server on a free port, which keeps what it has acknowledged over a kill. */
public final class RedisServer implements AutoCloseable {

  private final Path directory;
  private final String[] arguments;
  final int port;
  private Process process;

  public RedisServer(String... arguments) throws Exception {
    String binary = System.getProperty("redis.server", "");
    Assumptions.assumeTrue(
        Files.isRegularFile(Path.of(binary)), "-Dredis.server= names no redis-server");
    port = freePort();
    directory = Files.createTempDirectory("redis");
    this.arguments = arguments;
    start();
  }

  /** Below those that outgoing connections take, with room for a cluster's bus 10,000 above. */
  private static int freePort() throws IOException {
    for (int tries = 0; ; tries++) {
      int port = ThreadLocalRandom.current().nextInt(15_000, 22_000);
      try (ServerSocket socket = new ServerSocket(port)) {
        return socket.getLocalPort();
      } catch (IOException e) {
        if (tries == 100) {
          throw e;
        }
      }
    }
  }

  void start() throws Exception {
    List<String> command =
        new ArrayList<>(
            List.of(
                System.getProperty("redis.server"),
                "--port",
                Integer.toString(port),
                "--bind",
                "127.0.0.1",
                "--dir",
                directory.toString(),
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always"));
    command.addAll(Arrays.asList(arguments));
    process =
        new ProcessBuilder(command)
            .redirectErrorStream(true)
            .redirectOutput(directory.resolve("log").toFile())
            .start();
    for (int i = 0; ; i++) {
      try (Jedis jedis = client()) {
        jedis.ping();
        return;
      } catch (RuntimeException e) {
        if (String.valueOf(e.getMessage()).startsWith("NOAUTH")) {
          return;
        }
        if (i == 100 || !process.isAlive()) {
          throw new IOException(Files.readString(directory.resolve("log")), e);
        }
        Thread.sleep(50);
      }
    }
  }

  void kill() throws InterruptedException {
    process.destroyForcibly().waitFor();
  }

  /** It takes nothing and answers nothing, until it {@link #goesOn}. */
  void hangs() throws Exception {
    signal("-STOP");
  }

  void goesOn() throws Exception {
    signal("-CONT");
  }

  private void signal(String name) throws Exception {
    new ProcessBuilder("kill", name, Long.toString(process.pid())).start().waitFor();
  }

  public String url() {
    return Fixture.url(port);
  }

  public Jedis client() {
    return new Jedis("127.0.0.1", port);
  }

  @Override
  public void close() throws Exception {
    kill();
    try (var files = Files.walk(directory)) {
      for (Path path : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(path);
      }
    }
  }
}
