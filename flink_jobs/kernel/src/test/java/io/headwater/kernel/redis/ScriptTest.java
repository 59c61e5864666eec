package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import redis.clients.jedis.Jedis;

/** Views of few features and of more than one call of Redis takes, with and without a trace. */
class ScriptTest {

  private static RedisServer server;
  private static Jedis redis;

  @BeforeAll
  static void startServer() throws Exception {
    server = new RedisServer();
    redis = server.client();
  }

  @AfterAll
  static void stopServer() throws Exception {
    if (server != null) {
      redis.close();
      server.close();
    }
  }

  @BeforeEach
  void empty() {
    redis.flushAll();
  }

  /** A row of {@code entity}; its features are {@code value} and their place. */
  private record Row(String entity, Boolean how, long time, String value, String trace) {}

  /** How many rows of one call landed. */
  private static long call(int features, boolean traced, String epoch, Row... rows)
      throws Exception {
    List<byte[]> given = new ArrayList<>();
    PackedValues values = new PackedValues(rows.length * (features + 4));
    for (Row row : rows) {
      given.add(bytes(row.entity));
      values.add(bytes(epoch + row.time)).add(row.how).add(bytes("at " + row.time));
      for (int i = 0; i < features; i++) {
        values.add(bytes(row.value + i));
      }
      if (traced) {
        values.add(bytes(row.trace));
      }
    }
    List.of("version", epoch, "stamp").forEach(text -> given.add(bytes(text)));
    for (int i = 0; i < features; i++) {
      given.add(bytes("f" + i));
    }
    if (traced) {
      given.add(bytes("trace"));
    }
    given.add(values.packed());
    return (Long)
        redis.eval(bytes(Script.of(features, traced)), rows.length, given.toArray(byte[][]::new));
  }

  private static byte[] bytes(String text) {
    return text.getBytes(ISO_8859_1);
  }

  private static Map<String, String> stored(
      int features, String version, long time, String value, String trace) {
    Map<String, String> stored = new HashMap<>();
    stored.put("version", version);
    stored.put("stamp", "at " + time);
    for (int i = 0; value != null && i < features; i++) {
      stored.put("f" + i, value + i);
    }
    if (trace != null) {
      stored.put("trace", trace);
    }
    return stored;
  }

  @ParameterizedTest
  @CsvSource({
    "0, false",
    "1, false",
    "2, true",
    "39, true",
    "40, false",
    "40, true",
    "41, false",
    "41, true",
    "80, true",
    "81, false",
    "200, true"
  })
  void rowsOfOneCallAreSetOrDeletedOrRefused(int features, boolean traced) throws Exception {
    Row first = new Row("a", true, 1_000, "old", "t1");
    Row other = new Row("b", true, 5_000, "kept", "");
    assertEquals(2, call(features, traced, "0:", first, other));
    Row late = new Row("b", true, 4_000, "late", "t2");
    Row newer = new Row("a", true, 2_000, "new", "");
    Row another = new Row("c", true, 9_000, "c", "t3");
    assertEquals(2, call(features, traced, "0:", late, newer, another));
    assertEquals(
        stored(features, "0:2000", 2_000, "new", traced ? "t1" : null), redis.hgetAll("a"));
    assertEquals(stored(features, "0:5000", 5_000, "kept", null), redis.hgetAll("b"));
    assertEquals(stored(features, "0:9000", 9_000, "c", traced ? "t3" : null), redis.hgetAll("c"));
    if (features > 0) {
      Row gone = new Row("a", null, 3_000, "", "");
      Row again = new Row("c", true, 9_001, "again", "t4");
      assertEquals(2, call(features, traced, "0:", gone, again));
      assertEquals(
          stored(features, "0:3000", 3_000, null, traced ? "t1" : null), redis.hgetAll("a"));
      assertEquals(
          stored(features, "0:9001", 9_001, "again", traced ? "t4" : null), redis.hgetAll("c"));
    }
  }

  /** Times and epochs are numbers, of as many digits as they have, and of either sign. */
  @ParameterizedTest
  @ValueSource(
      longs = {-1_357_016_400_000L, -999, -1, 0, 1, 999, 1_000, 99_999, 1_357_016_400_000L})
  void whatIsNewerIsToldByNumbers(long time) throws Exception {
    for (long stored :
        new long[] {-1_357_016_400_001L, -1_000, -1, 0, 1, 1_000, 1_357_016_400_000L}) {
      for (String[] epochs : new String[][] {{"0:", "0:"}, {"9:", "10:"}, {"10:", "9:"}}) {
        redis.flushAll();
        call(1, false, epochs[0], row(stored, "old"));
        boolean lands = epochs[0].equals(epochs[1]) ? time >= stored : epochs[1].equals("10:");
        String told = stored + " of " + epochs[0] + ", then " + time + " of " + epochs[1];
        assertEquals(lands ? 1 : 0, call(1, false, epochs[1], row(time, "new")), told);
        assertEquals(lands ? "new0" : "old0", redis.hget("a", "f0"), told);
      }
    }
  }

  private static Row row(long time, String value) {
    return new Row("a", time >= 0, time, value, "");
  }
}
