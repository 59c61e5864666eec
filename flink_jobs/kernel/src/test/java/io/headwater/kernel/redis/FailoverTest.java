package io.headwater.kernel.redis;

import static io.headwater.kernel.redis.Fixture.row;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.redis.Fixture.Clock;
import io.headwater.kernel.redis.Fixture.Metrics;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import redis.clients.jedis.Jedis;

/** A real primary with a real replica, one address before them, and what a failover leaves. */
class FailoverTest {

  private static final byte[] DELAY = FeastCodec.featureField("delays", "delay");

  private final Metrics metrics = new Metrics();

  private RedisWriter writer(RedisSinkConfig config) {
    return new RedisWriter(config, metrics, new Clock());
  }

  @Test
  void aBatchCountsOnceAReplicaHasIt() throws Exception {
    try (RedisServer primary = new RedisServer();
        RedisServer replica = follow(primary);
        RedisWriter writer = writer(Fixture.replicated(primary.port, 1, 2))) {
      List<String> origins = IntStream.range(0, 500).mapToObj(i -> "K" + i).toList();
      for (String origin : origins) {
        writer.write(row(origin, 1, 1d), null);
      }
      writer.flush(false);
      for (String origin : origins) {
        assertArrayEquals(FeastCodec.float64(1d), stored(replica, origin), origin);
      }
      replica.kill();
      writer.write(row("JFK", 2, 2d), null);
      IOException error = assertThrows(IOException.class, () -> writer.flush(false));
      assertTrue(
          error
              .getMessage()
              .endsWith("1 entities not written after 2 retries: 0 of 1 replicas have them"),
          error.getMessage());
    }
  }

  @Test
  void aFailoverBehindOneAddressLosesNothing() throws Exception {
    try (RedisServer first = new RedisServer();
        RedisServer second = follow(first);
        Address address = new Address(first.port);
        RedisWriter writer = writer(Fixture.replicated(address.port(), 1, 9))) {
      writer.write(row("JFK", 1, 1d), null);
      writer.write(row("LGA", 1, 1d), null);
      writer.flush(false);
      // The writer's connection stays open, to what is a replica now.
      address.leadTo(second.port);
      try (Jedis promoted = second.client();
          Jedis demoted = first.client()) {
        promoted.replicaofNoOne();
        demoted.replicaof("127.0.0.1", second.port);
      }
      writer.write(row("JFK", 2, 2d), null);
      writer.flush(false);
      assertArrayEquals(FeastCodec.float64(2d), stored(second, "JFK"));
      assertArrayEquals(FeastCodec.float64(1d), stored(second, "LGA"));
      assertTrue(metrics.count("redisRetries") > 0);
      assertEquals(3, metrics.count("redisWrites"));
    }
  }

  private static byte[] stored(RedisServer server, String origin) throws IOException {
    byte[] key = RowEncoder.bytes(new RowEncoder(Fixture.config(0, 0L)).key(row(origin, 0, 0d)));
    try (Jedis jedis = server.client()) {
      return jedis.hget(key, DELAY);
    }
  }

  private static RedisServer follow(RedisServer primary) throws Exception {
    RedisServer replica = new RedisServer("--repl-diskless-sync-delay", "0");
    try (Jedis jedis = replica.client()) {
      jedis.replicaof("127.0.0.1", primary.port);
      for (int i = 0; !jedis.info("replication").contains("master_link_status:up"); i++) {
        assertTrue(i < 200, "the replica does not follow");
        Thread.sleep(50);
      }
    }
    return replica;
  }

  /** One address; connections go to where it leads when they are made, and stay there. */
  private static final class Address implements AutoCloseable {

    private final ServerSocket door;
    private final List<Socket> sockets = new CopyOnWriteArrayList<>();
    private volatile int target;

    Address(int target) throws IOException {
      this.target = target;
      door = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
      start(this::accept);
    }

    int port() {
      return door.getLocalPort();
    }

    void leadTo(int port) {
      target = port;
    }

    private void accept() {
      while (!door.isClosed()) {
        try {
          Socket near = door.accept();
          Socket far = new Socket(InetAddress.getLoopbackAddress(), target);
          sockets.addAll(List.of(near, far));
          start(() -> pass(near, far));
          start(() -> pass(far, near));
        } catch (IOException e) {
          return;
        }
      }
    }

    private static void pass(Socket from, Socket to) {
      try (from;
          to) {
        from.getInputStream().transferTo(to.getOutputStream());
      } catch (IOException e) {
        // One side has gone, and the other follows.
      }
    }

    private static void start(Runnable work) {
      Thread thread = new Thread(work);
      thread.setDaemon(true);
      thread.start();
    }

    @Override
    public void close() {
      try {
        door.close();
        for (Socket socket : sockets) {
          socket.close();
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }
}
