package io.headwater.kernel.replay;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.headwater.kernel.redis.RedisServer;
import org.junit.jupiter.api.Test;
import redis.clients.jedis.Jedis;

class PaceTest {

  @Test
  void itIsReadInTheDatabaseThatTheUrlNames() throws Exception {
    try (RedisServer server = new RedisServer();
        Jedis client = server.client()) {
      client.set("pace", "7");
      client.select(3);
      client.set("pace", "5000");
      Pace.Gate gate = Pace.of(server.url() + "/3", null, null, "pace").open();
      // Nobody tells when the answer has come.
      long deadline = System.nanoTime() + 30_000_000_000L;
      while (Double.isInfinite(gate.rate()) && System.nanoTime() < deadline) {
        Thread.sleep(5);
      }
      assertEquals(5000, gate.rate());
    }
  }

  @Test
  void nothingRunsFreeBeforeItIsKnownThatThereIsNoLimit() throws Exception {
    try (RedisServer server = new RedisServer();
        Jedis client = server.client()) {
      client.configSet("requirepass", "not ours");
      Pace.Gate gate = Pace.of(server.url(), null, null, "pace").open();
      gate.pass();
      assertEquals(1, gate.rate());
      client.configSet("requirepass", "");
      long deadline = System.nanoTime() + 30_000_000_000L;
      while (!Double.isInfinite(gate.rate()) && System.nanoTime() < deadline) {
        Thread.sleep(5);
      }
      assertEquals(Double.POSITIVE_INFINITY, gate.rate());
    }
  }
}
