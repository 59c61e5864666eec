package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.redis.Column.Kind;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ExplainDetail;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import redis.clients.jedis.Jedis;

/** The sink through Flink's planner and a local cluster. */
class RedisSqlTest {

  private RedisServer server;
  private TableEnvironment env;

  @BeforeEach
  void start() throws Exception {
    server = new RedisServer();
    Configuration config = new Configuration();
    config.setString("parallelism.default", "2");
    config.setString("table.local-time-zone", "UTC");
    config.setString("execution.checkpointing.interval", "1 h");
    env =
        TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(config).build());
  }

  @AfterEach
  void stop() throws Exception {
    if (server != null) {
      server.close();
    }
  }

  private void table(String name, String view, String columns, String options) {
    env.executeSql(
        """
        CREATE TABLE `%s` (%s) WITH ('connector' = 'feast-redis', 'url' = 'redis://127.0.0.1:%d',
          'project' = 'flights', 'view' = '%s', 'entity-keys' = 'origin',
          'event-time' = 'event_time'%s)"""
            .formatted(name, columns, server.port, view, options));
  }

  private void source(long rows, String options) {
    env.executeSql(
        """
        CREATE TABLE departures (n BIGINT, origin AS 'K' || CAST(MOD(n, 10) AS STRING))
        WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0',
          'fields.n.end' = '%d'%s)"""
            .formatted(rows - 1, options));
  }

  private static byte[] key(String origin) throws Exception {
    List<Column> keys = List.of(new Column("origin", 0, Kind.STRING));
    RowEncoder encoder = new RowEncoder(Fixture.config(0, "v", "flights", keys, List.of()));
    return RowEncoder.bytes(encoder.key(GenericRowData.of(StringData.fromString(origin))));
  }

  private static void assertFeature(
      Jedis jedis, String origin, String view, String feature, byte[] value) throws Exception {
    assertArrayEquals(
        value, jedis.hget(key(origin), FeastCodec.featureField(view, feature)), feature);
  }

  @Test
  void anAppendStreamOfAllTypes() throws Exception {
    source(1000, "");
    table(
        "delays_redis",
        "delays",
        "origin STRING, event_time TIMESTAMP_LTZ(3), is_deleted BOOLEAN, s STRING, l BIGINT,"
            + " i INT, d DOUBLE, b BOOLEAN, t TIMESTAMP(3), z TIMESTAMP_LTZ(3), nothing DOUBLE",
        ", 'deleted' = 'is_deleted', 'epoch' = '4'");
    String insert =
        """
        INSERT INTO delays_redis SELECT origin, TO_TIMESTAMP_LTZ(n, 3), n = 999,
          'S' || CAST(n AS STRING), -n, CAST(n AS INT), n / 2e0, MOD(n, 2) = 0,
          TIMESTAMP '1970-01-01 00:00:01.500', TO_TIMESTAMP_LTZ(n * 1000, 3),
          CAST(NULL AS DOUBLE) FROM departures""";
    String plan = env.explainSql(insert, ExplainDetail.JSON_EXECUTION_PLAN);
    assertFalse(plan.contains("Exchange") || plan.contains("HASH"), plan);
    assertTrue(plan.contains("redis delays: Writer"), plan);
    env.executeSql(insert).await();
    try (Jedis jedis = server.client()) {
      assertEquals(10, jedis.dbSize());
      assertFeature(jedis, "K8", "delays", "s", FeastCodec.string("S998".getBytes(UTF_8)));
      assertFeature(jedis, "K8", "delays", "l", FeastCodec.int64(-998));
      assertFeature(jedis, "K8", "delays", "i", FeastCodec.int64(998));
      assertFeature(jedis, "K8", "delays", "d", FeastCodec.float64(499));
      assertFeature(jedis, "K8", "delays", "b", FeastCodec.bool(true));
      assertFeature(jedis, "K8", "delays", "t", FeastCodec.int64(1500));
      assertFeature(jedis, "K8", "delays", "z", FeastCodec.int64(998_000));
      assertFeature(jedis, "K8", "delays", "nothing", FeastCodec.NULL);
      assertNull(jedis.hget(key("K8"), FeastCodec.featureField("delays", "is_deleted")));
      assertEquals(10, jedis.hlen(key("K8")));
      assertArrayEquals(
          FeastCodec.eventTime(998), jedis.hget(key("K8"), "_ts:delays".getBytes(UTF_8)));
      assertEquals("4:998", new String(jedis.hget(key("K8"), "_ep:delays".getBytes(UTF_8)), UTF_8));
      assertEquals(2, jedis.hlen(key("K9")), "a tombstone");
    }
  }

  @Test
  void aChangelog() throws Exception {
    source(1000, "");
    table("counts_redis", "counts", "origin STRING, event_time BIGINT, c BIGINT", "");
    String insert =
        "INSERT INTO counts_redis SELECT origin, MAX(n), COUNT(*) FROM departures GROUP BY origin";
    env.executeSql(insert).await();
    try (Jedis jedis = server.client()) {
      assertEquals(10, jedis.dbSize());
      for (int i = 0; i < 10; i++) {
        assertFeature(jedis, "K" + i, "counts", "c", FeastCodec.int64(100));
      }
    }
  }

  @Test
  void valuesLandBetweenCheckpoints() throws Exception {
    source(1_000_000, ", 'rows-per-second' = '100'");
    table("slow_redis", "slow", "origin STRING, event_time BIGINT, n BIGINT", "");
    TableResult job = env.executeSql("INSERT INTO slow_redis SELECT origin, n, n FROM departures");
    try (Jedis jedis = server.client()) {
      byte[] field = FeastCodec.featureField("slow", "n");
      for (long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
          jedis.hget(key("K0"), field) == null; ) {
        assertTrue(System.nanoTime() < deadline, "no value in 20 s");
        Thread.sleep(50);
      }
    } finally {
      job.getJobClient().orElseThrow().cancel().get();
    }
  }
}
