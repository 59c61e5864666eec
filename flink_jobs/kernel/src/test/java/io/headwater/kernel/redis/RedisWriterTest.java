package io.headwater.kernel.redis;

import static io.headwater.kernel.redis.Fixture.deleted;
import static io.headwater.kernel.redis.Fixture.of;
import static io.headwater.kernel.redis.Fixture.row;
import static io.headwater.kernel.redis.Fixture.traced;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.redis.Column.Kind;
import io.headwater.kernel.redis.Fixture.Clock;
import io.headwater.kernel.redis.Fixture.Metrics;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.types.RowKind;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.Protocol;

/** What lands, against a real Redis. */
class RedisWriterTest {

  private static final byte[] DELAY = FeastCodec.featureField("delays", "delay");
  private static final byte[] TIMESTAMP = "_ts:delays".getBytes(UTF_8);
  private static final byte[] TRACE = "_trace:delays".getBytes(UTF_8);
  private static final byte[] VERSION = "_ep:delays".getBytes(UTF_8);

  private static final Pattern CALLS = Pattern.compile("cmdstat_evalsha:calls=(\\d+)");

  private static RedisServer server;

  private final Metrics metrics = new Metrics();
  private final Clock clock = new Clock();

  @BeforeAll
  static void startServer() throws Exception {
    server = new RedisServer();
  }

  @AfterAll
  static void stopServer() throws Exception {
    if (server != null) {
      server.close();
    }
  }

  @BeforeEach
  void empty() {
    try (Jedis jedis = server.client()) {
      jedis.flushAll();
    }
  }

  private RedisWriter writer(RedisSinkConfig config) {
    return new RedisWriter(config, metrics, clock);
  }

  /** Each row as a batch of its own, so that Redis and not the buffer decides. */
  private void write(long epoch, RowData... rows) throws Exception {
    try (RedisWriter writer = writer(Fixture.config(server.port, epoch))) {
      for (RowData row : rows) {
        writer.write(row, null);
        writer.flush(false);
      }
    }
  }

  private static byte[] key(String origin) throws IOException {
    return RowEncoder.bytes(new RowEncoder(Fixture.config(0, 0L)).key(row(origin, 0, 0d)));
  }

  private static byte[] stored(String origin, byte[] field) throws IOException {
    try (Jedis jedis = server.client()) {
      return jedis.hget(key(origin), field);
    }
  }

  private static void assertStored(double delay, long eventTime, String version)
      throws IOException {
    assertArrayEquals(FeastCodec.float64(delay), stored("JFK", DELAY));
    assertArrayEquals(FeastCodec.eventTime(eventTime), stored("JFK", TIMESTAMP));
    assertEquals(version, new String(stored("JFK", VERSION), UTF_8));
  }

  @Test
  void newerWins() throws Exception {
    write(0, row("JFK", 999, 1d), row("JFK", 1000, 2d));
    assertStored(2, 1000, "0:1000");
    assertEquals(2, metrics.count("redisWrites"));
    assertEquals(0, metrics.count("redisOlder"));
    long lag = (Long) metrics.gauge("lagMs");
    assertTrue(Math.abs(System.currentTimeMillis() - 1000 - lag) < 60_000, "lag " + lag);
  }

  @Test
  void olderIsRefused() throws Exception {
    write(0, row("JFK", 1000, 2d), row("JFK", 999, 1d), row("JFK", -5, 0d));
    assertStored(2, 1000, "0:1000");
    assertEquals(1, metrics.count("redisWrites"));
    assertEquals(2, metrics.count("redisOlder"));
  }

  @Test
  void theSameEventTimeLands() throws Exception {
    write(0, row("JFK", 1000, 1d), row("JFK", 1000, 2d));
    assertStored(2, 1000, "0:1000");
  }

  @Test
  void aHigherEpochWinsOverANewerEventTime() throws Exception {
    write(9, row("JFK", 5000, 1d));
    write(10, row("JFK", 1000, 2d));
    assertStored(2, 1000, "10:1000");
    write(9, row("JFK", 9000, 3d));
    assertStored(2, 1000, "10:1000");
  }

  @Test
  void aRowMayBeUsedAgainBeforeItsBatchIsWritten() throws Exception {
    GenericRowData row = row("LGA", 1000, 1d);
    try (RedisWriter writer = writer(Fixture.config(server.port, 0L))) {
      writer.write(row, null);
      for (int i = 2; i < 5; i++) {
        row.setField(0, StringData.fromString("JFK"));
        row.setField(1, 1000L + i);
        row.setField(2, i == 3 ? null : (double) i);
        writer.write(row, null);
      }
      row.setField(2, 9d);
      writer.flush(false);
    }
    assertArrayEquals(FeastCodec.float64(1), stored("LGA", DELAY));
    assertStored(4, 1004, "0:1004");
    assertEquals(2, metrics.count("redisWrites"));
  }

  @Test
  void eventTimesAreComparedAsNumbersToTheMillisecond() throws Exception {
    write(0, row("JFK", -10, 1d), row("JFK", -9, 2d), row("JFK", 5, 3d));
    assertStored(3, 5, "0:5");
    write(0, row("JFK", 253_402_300_799_998L, 4d), row("JFK", 253_402_300_799_999L, 5d));
    write(0, row("JFK", 253_402_300_799_998L, 6d));
    assertStored(5, 253_402_300_799_999L, "0:253402300799999");
  }

  @Test
  void whatFeastWroteCountsAsOlder() throws Exception {
    try (Jedis jedis = server.client()) {
      jedis.hset(
          key("JFK"), Map.of(TIMESTAMP, FeastCodec.eventTime(9000), DELAY, FeastCodec.float64(1)));
    }
    write(0, row("JFK", 1000, 2d));
    assertStored(2, 1000, "0:1000");
  }

  @Test
  void anotherViewOfTheEntityStays() throws Exception {
    byte[] other = FeastCodec.featureField("other", "delay");
    try (Jedis jedis = server.client()) {
      jedis.hset(key("JFK"), other, FeastCodec.float64(7));
    }
    write(0, row("JFK", 1000, 1d), deleted("JFK", 1001));
    assertArrayEquals(FeastCodec.float64(7), stored("JFK", other));
  }

  @Test
  void aTombstoneRefusesOlderRows() throws Exception {
    write(0, row("JFK", 1000, 1d), deleted("JFK", 2000), row("JFK", 1500, 2d));
    assertNull(stored("JFK", DELAY));
    assertArrayEquals(FeastCodec.eventTime(2000), stored("JFK", TIMESTAMP));
    assertEquals("0:2000", new String(stored("JFK", VERSION), UTF_8));
    write(0, row("JFK", 2001, 3d));
    assertStored(3, 2001, "0:2001");
  }

  @Test
  void anOlderDeleteIsRefused() throws Exception {
    write(0, row("JFK", 1000, 1d), deleted("JFK", 999));
    assertStored(1, 1000, "0:1000");
  }

  @Test
  void theRowsOfAChangelog() throws Exception {
    write(
        0,
        of(RowKind.INSERT, row("JFK", 1000, 1d)),
        of(RowKind.UPDATE_BEFORE, row("JFK", 3000, 1d)),
        of(RowKind.UPDATE_AFTER, row("JFK", 2000, 2d)));
    assertStored(2, 2000, "0:2000");
    write(0, of(RowKind.DELETE, row("JFK", 2000, 2d)), row("JFK", 1999, 3d));
    assertNull(stored("JFK", DELAY));
  }

  private static String traceparent(int n) {
    return "00-%032x-%016x-01".formatted(n, n);
  }

  private static String storedTrace() throws IOException {
    byte[] found = stored("JFK", TRACE);
    return found == null ? null : new String(found, UTF_8);
  }

  /** Without a collector what is stored leads to the span that sent the event. */
  @Test
  void theTraceOfTheNewestSampledRowIsKept() throws Exception {
    try (RedisWriter writer = writer(Fixture.traced(server.port))) {
      writer.write(traced("JFK", 1000, 1, null), null);
      writer.flush(false);
      assertNull(storedTrace());
      writer.write(traced("JFK", 2000, 2, traceparent(2) + " 1 2"), null);
      writer.write(traced("LGA", 2000, 2, null), null);
      writer.flush(false);
      assertEquals(traceparent(2) + " 2000", storedTrace());
      assertNull(stored("LGA", TRACE));
      writer.write(traced("JFK", 3000, 3, null), null);
      writer.write(traced("JFK", 1999, 4, traceparent(4) + " 1 2"), null);
      writer.flush(false);
      assertEquals(traceparent(2) + " 2000", storedTrace());
      assertStored(3, 3000, "0:3000");
      writer.write(traced("JFK", 2500, 5, traceparent(5) + " 1 2"), null);
      writer.flush(false);
      assertEquals(traceparent(2) + " 2000", storedTrace());
    }
    assertStored(3, 3000, "0:3000");
  }

  @Test
  void aSampledRowWhosePlaceIsTakenInItsBatchLeavesItsTrace() throws Exception {
    try (RedisWriter writer = writer(Fixture.traced(server.port))) {
      writer.write(traced("JFK", 1000, 1, traceparent(1) + " 1 2"), null);
      writer.write(traced("JFK", 2000, 2, traceparent(2) + " 1 2"), null);
      writer.write(traced("JFK", 3000, 3, null), null);
      writer.flush(false);
    }
    assertStored(3, 3000, "0:3000");
    assertEquals(traceparent(2) + " 2000", storedTrace());
  }

  @Test
  void whatIsNoTraceIsNotKept() throws Exception {
    try (RedisWriter writer = writer(Fixture.traced(server.port))) {
      writer.write(traced("JFK", 1000, 1, "00-x"), null);
      writer.flush(false);
    }
    assertStored(1, 1000, "0:1000");
    assertNull(storedTrace());
  }

  @Test
  void aNullIsStoredEmpty() throws Exception {
    write(0, row("JFK", 1000, 1d), row("JFK", 1001, null));
    assertArrayEquals(new byte[0], stored("JFK", DELAY));
  }

  @Test
  void aBatchHoldsTheNewestRowOfEachKeyAndTheLastOfTies() throws Exception {
    try (RedisWriter writer = writer(Fixture.config(server.port, 0L))) {
      writer.write(row("JFK", 1000, 1d), null);
      writer.write(row("JFK", 2000, 2d), null);
      writer.write(row("JFK", 2000, 3d), null);
      writer.write(row("JFK", 1500, 4d), null);
      writer.write(row("LGA", 1, 5d), null);
      writer.flush(false);
    }
    assertStored(3, 2000, "0:2000");
    assertEquals(2, metrics.count("redisWrites"));
    assertEquals(1, metrics.count("redisOlder"));
  }

  @Test
  void aFullBatchAndALongWaitAreWritten() throws Exception {
    try (RedisWriter writer = writer(Fixture.config(server.port, 2))) {
      writer.write(row("JFK", 1, 1d), null);
      writer.write(row("JFK", 2, 2d), null);
      assertNull(stored("JFK", DELAY));
      writer.write(row("LGA", 3, 3d), null);
      awaitStored("JFK", 2);
      assertStored(2, 2, "0:2");
      writer.write(row("EWR", 4, 4d), null);
      clock.advance(199);
      assertNull(stored("EWR", DELAY));
      clock.advance(200);
      awaitStored("EWR", 4);
    }
  }

  /** Redis does nothing else during a call. */
  @Test
  void onlyAFullBatchGoesByLargeCalls() throws Exception {
    assertEquals(1, callsFor(100, 100));
    assertEquals(4, callsFor(100, 101));
  }

  @Test
  void aCallOfManyFeaturesHasFewEntities() throws Exception {
    List<Column> features =
        IntStream.range(0, 97).mapToObj(i -> new Column("f" + i, 4 + i, Kind.DOUBLE)).toList();
    assertEquals(5 + 5 + 2, callsFor(60, wide(features), "A", null), "25, 25 and 10 rows by 6");
    features = IntStream.range(0, 997).mapToObj(i -> new Column("f" + i, 4, Kind.DOUBLE)).toList();
    assertEquals(3, callsFor(3, wide(features), "A", null));
  }

  @Test
  void aCallOfLongStringsHasFewEntities() throws Exception {
    RedisSinkConfig config = wide(List.of(new Column("text", 4, Kind.STRING)));
    StringData text = StringData.fromString("é".repeat(10_000));
    assertEquals(2, callsFor(6, config, "A", text), "60 of 64 kB");
    text = StringData.fromString("x".repeat(100_000));
    assertEquals(6, callsFor(6, config, "B", text), "none is left out that is longer");
  }

  private static RedisSinkConfig wide(List<Column> features) {
    return Fixture.config(server.port, "delays", "flights", Fixture.KEYS, features);
  }

  private int callsFor(int rows, int batchSize) throws Exception {
    return callsFor(rows, Fixture.config(server.port, batchSize), "A", null);
  }

  private int callsFor(int rows, RedisSinkConfig config, String name, Object more)
      throws Exception {
    try (Jedis jedis = server.client()) {
      jedis.flushAll();
      jedis.configResetStat();
      try (RedisWriter writer = writer(config)) {
        for (int i = 0; i < rows; i++) {
          GenericRowData row = new GenericRowData(104);
          row.setField(0, StringData.fromString(name + i));
          row.setField(1, 1L);
          row.setField(2, (double) i);
          row.setField(4, more);
          writer.write(row, null);
        }
        writer.flush(true);
      }
      assertEquals(rows, jedis.dbSize());
      Matcher calls = CALLS.matcher(jedis.info("commandstats"));
      assertTrue(calls.find());
      return Integer.parseInt(calls.group(1));
    }
  }

  @Test
  void theLastOfTiesWinsThoughSeveralBatchesAreUnderWay() throws Exception {
    try (RedisWriter writer = writer(Fixture.config(server.port, 1))) {
      for (int i = 1; i <= 5_000; i++) {
        writer.write(row("JFK", 1000, (double) i), null);
      }
      writer.flush(true);
    }
    assertStored(5_000, 1000, "0:1000");
    assertEquals(5_000, metrics.count("redisWrites"));
  }

  /** A batch is written while the next one fills. */
  private static void awaitStored(String origin, double delay) throws Exception {
    for (int i = 0; i < 500 && stored(origin, DELAY) == null; i++) {
      Thread.sleep(10);
    }
    assertArrayEquals(FeastCodec.float64(delay), stored(origin, DELAY));
  }

  @Test
  void aBatchThatFailsIsToldBeforeTheNext() throws Exception {
    try (Jedis jedis = server.client()) {
      jedis.set(key("JFK"), "no hash".getBytes(UTF_8));
    }
    try (RedisWriter writer = writer(Fixture.config(server.port, 2))) {
      writer.write(row("JFK", 1, 1d), null);
      writer.write(row("LGA", 1, 1d), null);
      IOException error = assertThrows(IOException.class, () -> writer.flush(false));
      assertTrue(error.getMessage().contains("WRONGTYPE"), error.getMessage());
    }
  }

  @Test
  void aLostScriptIsLoadedAgain() throws Exception {
    try (RedisWriter writer = writer(Fixture.config(server.port, 0L))) {
      writer.write(row("JFK", 1, 1d), null);
      writer.flush(false);
      try (Jedis jedis = server.client()) {
        jedis.scriptFlush();
      }
      writer.write(row("JFK", 2, 2d), null);
      writer.write(row("LGA", 2, 2d), null);
      writer.flush(false);
    }
    assertStored(2, 2, "0:2");
    assertEquals(3, metrics.count("redisWrites"));
    assertEquals(1, metrics.count("redisRetries"));
  }

  @Test
  void noValueIsLostWhenRedisIsKilledAndRestarted() throws Exception {
    Map<String, Double> expected = new HashMap<>();
    CompletableFuture<Void> outage = new CompletableFuture<>();
    try (RedisServer victim = new RedisServer();
        RedisWriter writer = writer(Fixture.config(victim.port, 50))) {
      for (int i = 0; i < 30_000; i++) {
        if (i == 10_000) {
          // While batches are under way, and back after some tries have failed.
          new Thread(
                  () -> {
                    try {
                      victim.kill();
                      Thread.sleep(700);
                      victim.start();
                      outage.complete(null);
                    } catch (Exception e) {
                      outage.completeExceptionally(e);
                    }
                  })
              .start();
        }
        String origin = "K" + i % 5_000;
        writer.write(row(origin, i, (double) i), null);
        expected.put(origin, (double) i);
      }
      writer.flush(true);
      outage.get();
      assertTrue(metrics.count("redisRetries") > 0);
      try (Jedis jedis = victim.client()) {
        assertEquals(expected.size(), jedis.dbSize());
        for (var entry : expected.entrySet()) {
          assertArrayEquals(
              FeastCodec.float64(entry.getValue()),
              jedis.hget(key(entry.getKey()), DELAY),
              entry.getKey());
        }
      }
    }
  }

  @Test
  void aServerThatStaysAwayFailsTheJob() throws Exception {
    int port;
    try (RedisServer gone = new RedisServer()) {
      port = gone.port;
    }
    RedisSinkConfig config = Fixture.connecting(Fixture.config(port, 0L), null, null, false, 2);
    try (RedisWriter writer = writer(config)) {
      writer.write(row("JFK", 1, 1d), null);
      IOException error = assertThrows(IOException.class, () -> writer.flush(false));
      assertTrue(
          error
              .getMessage()
              .startsWith(
                  "redis 127.0.0.1:%d: view delays: 1 entities not written after 2 retries: "
                      .formatted(port)),
          error.getMessage());
    }
    assertEquals(2, metrics.count("redisRetries"));
  }

  /**
   * What fits the sockets' buffers is written to it all the same; more than that would wait, long
   * keys in a write of their own and short ones in the client's buffer.
   */
  @ParameterizedTest
  @CsvSource({"false, 2000, 10000", "false, 200000, 60", "true, 2000, 10000", "true, 200000, 60"})
  void aServerThatHangsWhileMuchIsWrittenIsTriedAgainAndThenFailsTheJob(
      boolean cluster, int rows, int length) throws Exception {
    try (RedisServer hanging = cluster ? alone() : new RedisServer()) {
      RedisSinkConfig config =
          Fixture.connecting(Fixture.config(hanging.port, rows), null, null, cluster, 1);
      RedisWriter writer = writer(config);
      try {
        writer.write(row("JFK", 1, 1d), null);
        writer.flush(false);
        hanging.hangs();
        IOException failure =
            assertTimeoutPreemptively(
                Duration.ofMinutes(2),
                () ->
                    assertThrows(
                        IOException.class,
                        () -> {
                          for (int i = 0; i < rows; i++) {
                            writer.write(row("x".repeat(length) + i, 1, 1d), null);
                          }
                          writer.flush(false);
                        }));
        assertTrue(failure.getMessage().contains("after 1 retries"), failure.getMessage());
        assertEquals(1, metrics.count("redisRetries"));
        assertTimeoutPreemptively(Duration.ofMinutes(1), writer::close);
      } finally {
        hanging.goesOn();
      }
    }
  }

  /** A cluster of one node. */
  private static RedisServer alone() throws Exception {
    RedisServer server = new RedisServer("--cluster-enabled", "yes");
    try (Jedis admin = server.client()) {
      for (int start = 0; start < 16384; start += 512) {
        admin.clusterAddSlots(IntStream.range(start, start + 512).toArray());
      }
      for (int i = 0; i < 100 && !info(admin).contains("cluster_state:ok"); i++) {
        Thread.sleep(50);
      }
    }
    return server;
  }

  @Test
  void passwordsComeFromTheUrlOrAFileAndAreNotTold(@TempDir Path directory) throws Exception {
    Path file = Files.writeString(directory.resolve("password"), "s3cret/%?\n");
    // All that a user of its own needs.
    try (RedisServer closed =
        new RedisServer(
            "--requirepass",
            "s3cret/%?",
            "--user",
            "writer",
            "on",
            ">s3cret/%?",
            "~*",
            "+evalsha",
            "+script|load",
            "+hget",
            "+hset",
            "+hdel")) {
      String host = "@127.0.0.1:" + closed.port;
      RedisSinkConfig plain = Fixture.config(closed.port, 0L);
      for (RedisSinkConfig config :
          new RedisSinkConfig[] {
            Fixture.withUrl("redis://:s3cret%2F%25%3F" + host),
            Fixture.withUrl("redis://writer:s3cret%2F%25%3F" + host),
            Fixture.connecting(plain, null, file.toString(), false, 0),
            Fixture.connecting(plain, "writer", file.toString(), false, 0)
          }) {
        try (RedisWriter writer = writer(config)) {
          writer.write(row("JFK", 1, 1d), null);
          writer.flush(false);
        }
      }
      assertEquals(4, metrics.count("redisWrites"));

      Files.writeString(file, "hunter2");
      for (RedisSinkConfig config :
          new RedisSinkConfig[] {
            Fixture.withUrl("redis://:hunter2" + host),
            Fixture.connecting(plain, "writer", file.toString(), false, 9)
          }) {
        try (RedisWriter writer = writer(config)) {
          writer.write(row("JFK", 1, 1d), null);
          long start = System.nanoTime();
          IOException error = assertThrows(IOException.class, () -> writer.flush(false));
          assertTrue(System.nanoTime() - start < 5e9, "no retry helps");
          StringWriter trace = new StringWriter();
          error.printStackTrace(new PrintWriter(trace));
          assertFalse(trace.toString().contains("hunter2"), trace.toString());
          assertTrue(error.getMessage().contains("127.0.0.1:" + closed.port), trace.toString());
          assertTrue(error.getMessage().contains("view delays"), trace.toString());
          assertFalse(config.toString().contains("hunter2"));
        }
      }
    }
  }

  @Test
  void aPasswordThatTheServerRepeatsIsNotTold() throws Exception {
    try (RedisServer odd = new RedisServer("--rename-command", "AUTH", "")) {
      RedisSinkConfig config =
          Fixture.connecting(
              Fixture.withUrl("redis://:hunter2@127.0.0.1:" + odd.port), null, null, false, 0);
      try (RedisWriter writer = writer(config)) {
        writer.write(row("JFK", 1, 1d), null);
        IOException error = assertThrows(IOException.class, () -> writer.flush(false));
        StringWriter trace = new StringWriter();
        error.printStackTrace(new PrintWriter(trace));
        assertTrue(error.getMessage().endsWith("ERR unknown command `AUTH`"), trace.toString());
        assertFalse(trace.toString().contains("hunter2"), trace.toString());
      }
    }
  }

  @Test
  void aCluster() throws Exception {
    try (RedisServer first = new RedisServer("--cluster-enabled", "yes");
        RedisServer second = new RedisServer("--cluster-enabled", "yes");
        Jedis one = first.client();
        Jedis two = second.client()) {
      for (int slot = 0; slot < 16384; slot += 512) {
        int start = slot;
        (slot < 8192 ? one : two).clusterAddSlots(IntStream.range(start, start + 512).toArray());
      }
      one.clusterMeet("127.0.0.1", second.port);
      for (int i = 0; i < 200 && !(isUp(one) && isUp(two)); i++) {
        Thread.sleep(50);
      }
      assertTrue(isUp(one) && isUp(two));
      try (RedisWriter writer =
          writer(Fixture.connecting(Fixture.config(first.port, 0L), null, null, true, 3))) {
        for (int round = 1; round <= 2; round++) {
          for (int i = 0; i < 500; i++) {
            writer.write(row("K" + i, round, (double) i), null);
          }
          writer.flush(false);
          // Of one node only: its rows are written again, not those of the other.
          two.scriptFlush();
        }
      }
      awaitAlone(one);
      awaitAlone(two);
      assertEquals(500, one.dbSize() + two.dbSize());
      assertTrue(one.dbSize() > 100 && two.dbSize() > 100);
      assertEquals(1000, metrics.count("redisWrites"));
      assertEquals(1, metrics.count("redisRetries"));
    }
  }

  private static String info(Jedis node) {
    return new String((byte[]) node.sendCommand(Protocol.Command.CLUSTER, "INFO"), UTF_8);
  }

  private static boolean isUp(Jedis node) {
    String info = info(node);
    return info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2");
  }

  /** Waits as long as a test may take until nobody else is connected. */
  private static void awaitAlone(Jedis node) throws Exception {
    long deadline = System.nanoTime() + 10_000_000_000L;
    while (node.clientList().lines().count() > 1 && System.nanoTime() < deadline) {
      Thread.sleep(5);
    }
    assertEquals(1, node.clientList().lines().count(), node.clientList());
  }

  @Test
  void whatIsConnectedToAfterItIsClosedIsLetGoOf() throws Exception {
    try (ServerSocket slow = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
      RedisWriter writer = writer(Fixture.config(slow.getLocalPort(), 1));
      writer.write(row("JFK", 1, 1d), null);
      try (Socket client = slow.accept()) {
        InputStream asked = client.getInputStream();
        assertTrue(asked.read() >= 0);
        CompletableFuture<Void> closed = CompletableFuture.runAsync(writer::close);
        // The script's name, so slowly that the writer is closed before it is told.
        OutputStream answer = client.getOutputStream();
        answer.write("$400\r\n".getBytes(UTF_8));
        int told = 0;
        for (; told < 400 && !closed.isDone(); told++) {
          answer.write('a');
          Thread.sleep(100);
        }
        closed.get();
        // The rest, and what the row's call is answered.
        answer.write(("a".repeat(400 - told) + "\r\n:1\r\n").getBytes(UTF_8));
        client.setSoTimeout(10_000);
        try {
          while (asked.read() >= 0) {}
        } catch (SocketException reset) {
          // It was closed with something left to read.
        }
      }
    }
  }

  @Test
  void rowsWithoutEntityOrTimeFail() throws Exception {
    try (RedisWriter writer = writer(Fixture.config(server.port, 0L))) {
      var noKey = row("JFK", 1, 1d);
      noKey.setField(0, null);
      var noTime = row("JFK", 1, 1d);
      noTime.setField(1, null);
      var microseconds = row("JFK", 1_357_035_420_123_000L, 1d);
      assertMessage("column 'origin' is NULL", writer, noKey);
      assertMessage("column 'event_time' is NULL", writer, noTime);
      assertMessage("column 'event_time' is 1357035420123000, not", writer, microseconds);
    }
  }

  private static void assertMessage(String part, RedisWriter writer, RowData row) {
    IOException error = assertThrows(IOException.class, () -> writer.write(row, null));
    assertTrue(error.getMessage().startsWith("view delays: " + part), error.getMessage());
  }
}
