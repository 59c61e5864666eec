package io.headwater.kernel.rolling;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.traces.RowTrace;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Random;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.BooleanType;
import org.apache.flink.table.types.logical.DateType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What a spec may say, and what an upgrade reads. Values: {@code tests/test_rolling.py}. */
class EngineTest {

  private static final RowType INPUT =
      RowType.of(
          new LogicalType[] {
            new BigIntType(),
            new DoubleType(),
            new BooleanType(),
            new VarCharType(),
            new DateType(),
            new LocalZonedTimestampType(3)
          },
          new String[] {"i", "d", "b", "s", "day", "rowtime"});

  private static final String BASICS =
      window("n", "count", null)
          + ","
          + window("m", "mean", "d")
          + ","
          + window("v", "stddev", "d")
          + ","
          + window("s", "last", "s")
          + ", {\"name\": \"ever\", \"op\": \"last\", \"column\": \"s\"}";

  private static String window(String name, String op, String column) {
    return "{\"name\": \"%s\", \"op\": \"%s\", \"column\": %s, \"window_ms\": 60, \"tile_ms\": 10}"
        .formatted(name, op, column == null ? null : '"' + column + '"');
  }

  private static Engine engine(String features) {
    return new Engine(spec(features));
  }

  private static Spec spec(String features) {
    return Spec.parse("{\"time\": \"rowtime\", \"features\": [" + features + "]}", INPUT);
  }

  /**
   * State written by the kernel of version 1: two rows handled, of times 5 and 15, one of time 25
   * waiting.
   */
  @Test
  void stateOfVersionOneIsReadAndGoesOn() {
    byte[] written =
        Base64.getDecoder()
            .decode(
                "AZ1e52wAAAAAAAAADwAAAAAAAAAZAAAAAQAAAAAAAAABAAAAAQAAAAN0d28BAAAAAAAAAAIA"
                    + "AAAHAAAAAQAAAAIAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAEAAAAAAAAAAT/4AAAAAAAAAAAA"
                    + "AAAAAAE/+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAQAAAAAAAAABQBAAAAAAAAAA"
                    + "AAAAAAAAAUAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAAAANvbmUAAAADdHdvAAAAAQAAAAAA"
                    + "AAAZAAAAAAAAAAICQBwAAAAAAAAAAAAAAAAAAAH//////////w==");
    KeyState state = KeyStateCodec.decode(written);
    Engine engine = engine(BASICS);
    engine.check(state);
    List<RowData> out = new ArrayList<>();
    StringData two = StringData.fromString("two");
    engine.advance(state, 25, false, row -> out.add(Harness.copy(spec(BASICS), row)));
    // Written by this version on the way.
    state = KeyStateCodec.decode(KeyStateCodec.encode(state));
    engine.advance(state, 70, false, row -> out.add(Harness.copy(spec(BASICS), row)));
    assertEquals(
        List.of(
            GenericRowData.of(3L, 4.166666666666667, 2.2484562605386733, two, two, at(25), null),
            GenericRowData.of(2L, 5.5, 1.5, two, two, at(70), null)),
        out);
  }

  private static TimestampData at(long milliseconds) {
    return TimestampData.fromEpochMillis(milliseconds);
  }

  /** A row as {@link #INPUT}, its s a traceparent or none. */
  private static GenericRowData sampled(String traceparent, double d) {
    return GenericRowData.of(
        1L, d, true, traceparent == null ? null : StringData.fromString(traceparent), null, null);
  }

  private static String traceparent(int n, String flags) {
    return "00-%032x-%016x-%s".formatted(n, n, flags);
  }

  private static Engine traced() {
    return new Engine(
        Spec.parse(
            "{\"time\": \"rowtime\", \"trace\": \"s\", \"features\": ["
                + window("m", "mean", "d")
                + "]}",
            INPUT));
  }

  @Test
  void aSampledRowsTraceOutlivesARestartAndComesOutOnce() {
    Engine engine = traced();
    KeyState state = engine.newState();
    long before = System.currentTimeMillis();
    engine.buffer(state, sampled(null, 1), 5);
    engine.buffer(state, sampled(traceparent(7, "01"), 2), 5);
    engine.buffer(state, sampled(null, 3), 15);
    byte[] written = KeyStateCodec.encode(state);
    assertEquals(4, written[0]);
    state = KeyStateCodec.decode(written);
    assertArrayEquals(written, KeyStateCodec.encode(state));
    List<String> traces = new ArrayList<>();
    engine.advance(
        state, 200, false, row -> traces.add(row.isNullAt(3) ? null : row.getString(3).toString()));
    // Of the times 5 and 15 and of both windows' ends.
    assertEquals(4, traces.size());
    assertEquals(List.of(), traces.stream().skip(1).filter(t -> t != null).toList());
    RowTrace trace = RowTrace.parse(traces.get(0));
    assertEquals(traceparent(7, "01"), trace.parent());
    assertTrue(before <= trace.readAt() && trace.readAt() <= trace.appliedAt(), trace.toString());
  }

  @Test
  void aStreamThatIsNoLongerTracedGoesOnFromItsState() {
    Engine traced = traced();
    KeyState state = traced.newState();
    traced.buffer(state, sampled(traceparent(7, "01"), 2), 5);
    state = KeyStateCodec.decode(KeyStateCodec.encode(state));
    Engine plain = engine(window("m", "mean", "d"));
    plain.check(state);
    List<RowData> out = new ArrayList<>();
    plain.advance(
        state, 5, false, row -> out.add(Harness.copy(spec(window("m", "mean", "d")), row)));
    assertEquals(List.of(GenericRowData.of(2.0, at(5), null)), out);
  }

  @Test
  void stateWithoutASampledRowIsThatOfVersionThree() {
    Engine engine = traced();
    KeyState state = engine.newState();
    KeyState plain = engine(window("m", "mean", "d")).newState();
    String no = traceparent(7, "00");
    for (String other : new String[] {null, "", "x".repeat(55), no, no.toUpperCase() + "1"}) {
      engine.buffer(state, sampled(other, 1), 5);
      engine(window("m", "mean", "d")).buffer(plain, sampled(other, 1), 5);
    }
    engine(window("m", "mean", "d")).check(state);
    assertEquals(3, KeyStateCodec.encode(state)[0]);
    assertArrayEquals(KeyStateCodec.encode(plain), KeyStateCodec.encode(state));
  }

  @Test
  void stateOfALaterVersionIsRefused() {
    byte[] written = KeyStateCodec.encode(engine(BASICS).newState());
    written[0] = 5;
    assertThrows(RuntimeException.class, () -> KeyStateCodec.decode(written));
  }

  @Test
  void stateIsWrittenAsItWasRead() {
    Engine engine =
        engine(
            window("a", "distinct", "s")
                + ","
                + window("b", "percentile", "d").replace("\"column\"", "\"q\": 0.5, \"column\"")
                + ","
                + window("c", "last_n", "s").replace("\"column\"", "\"n\": 2, \"column\""));
    KeyState state = engine.newState();
    for (int i = 0; i < 5000; i++) {
      StringData s = i % 7 == 0 ? null : StringData.fromString("s" + i);
      engine.buffer(state, GenericRowData.of(1L, i * 1e3 - 9e5, true, s, null), 5 + i % 2);
    }
    engine.advance(state, 5, false, row -> {});
    byte[] written = KeyStateCodec.encode(state);
    assertArrayEquals(written, KeyStateCodec.encode(KeyStateCodec.decode(written)));
  }

  /** A replay jumps over days at a time, where the live job went instant by instant. */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void whatGoesThroughInstantsAtOnceGivesTheRowsOfEachAlone(boolean counting) {
    List<String> features = new ArrayList<>();
    for (int[] size : new int[][] {{60, 10}, {600, 10}, {300, 50}}) {
      for (String op : List.of("sum", "stddev", "min", "max", "first", "last", "distinct")) {
        features.add(sized(features.size(), op, op.equals("distinct") ? "s" : "d", size));
      }
      features.add(sized(features.size(), "share", "b", size));
      features.add(sized(features.size(), "last_n", "s\", \"n\": \"3", size));
      features.add(sized(features.size(), "percentile", "d\", \"q\": \"0.9", size));
      if (counting) {
        features.add(filtered(sized(features.size(), "count", "s", size)));
        features.add(sized(features.size(), "count", null, size));
      }
    }
    features.add("{\"name\": \"ever\", \"op\": \"mean\", \"column\": \"d\"}");
    String json = String.join(",", features).replaceAll("\"([0-9.]+)\"", "$1");
    Spec spec = spec(json);
    Engine alone = engine(json);
    Engine atOnce = engine(json);
    for (int seed = 0; seed < 20; seed++) {
      Random random = new Random(seed);
      KeyState one = alone.newState();
      KeyState other = atOnce.newState();
      long time = 1;
      for (int i = 0; i < 300; i++) {
        time += random.nextInt(10) == 0 ? random.nextInt(900) : random.nextInt(12);
        Object d = random.nextInt(5) == 0 ? null : random.nextInt(99) / 7.0;
        StringData s =
            random.nextInt(5) == 0 ? null : StringData.fromString("s" + random.nextInt(9));
        GenericRowData row = GenericRowData.of(1L, d, random.nextBoolean(), s, null);
        alone.buffer(one, row, time);
        atOnce.buffer(other, row, time);
      }
      List<RowData> each = new ArrayList<>();
      for (long at = 1; at < time + 1000; at++) {
        alone.advance(one, at, false, row -> each.add(Harness.copy(spec, row)));
        if (random.nextInt(50) == 0) {
          one = KeyStateCodec.decode(KeyStateCodec.encode(one));
        }
      }
      List<RowData> all = new ArrayList<>();
      atOnce.advance(other, time + 1000, false, row -> all.add(Harness.copy(spec, row)));
      for (int i = 0; i < Math.min(each.size(), all.size()); i++) {
        assertEquals(each.get(i), all.get(i), "seed " + seed + ", row " + i);
      }
      assertEquals(each.size(), all.size(), "seed " + seed);
    }
  }

  private static String sized(int number, String op, String column, int[] size) {
    return "{\"name\": \"f%d\", \"op\": \"%s\", \"column\": %s, \"window_ms\": %d, \"tile_ms\": %d}"
        .formatted(number, op, column == null ? null : '"' + column + '"', size[0], size[1]);
  }

  @Test
  void stateOfAnotherSpecIsRefused() {
    KeyState state = engine(window("m", "mean", "d")).newState();
    for (String other :
        List.of(window("m", "mean", "i"), filtered(window("m", "mean", "d")), BASICS)) {
      assertThrows(RuntimeException.class, () -> engine(other).check(state));
    }
    engine(window("renamed", "mean", "d")).check(state);
  }

  private static String filtered(String feature) {
    return feature.replace("\"column\"", "\"filter\": \"b\", \"column\"");
  }

  @Test
  void errorsNameThePathAndTheChoices() {
    String[][] cases = {
      {"{", "not JSON"},
      {"{\"features\": [{}]}", "$.time"},
      {"{\"time\": \"rowtime\", \"trace\": \"d\", \"features\": [{}]}", "$.trace"},
      {"{\"time\": \"day\", \"features\": [{}]}", "choose"},
      {"{\"time\": \"rowtime\", \"keys\": \"s\", \"features\": [{}]}", "$.keys"},
      {"{\"time\": \"rowtime\", \"keys\": [], \"features\": [{}]}", "$.keys"},
      {"{\"time\": \"rowtime\", \"keys\": [\"day\"], \"features\": [{}]}", "CAST it to"},
      {
        "{\"time\": \"rowtime\", \"keys\": [\"s\"],"
            + " \"features\": [{\"name\": \"s\", \"op\": \"count\"}]}",
        "a name of its own"
      },
      {"{\"time\": \"rowtime\", \"features\": []}", "$.features"},
      {feature("\"op\": \"median\""), "choose of count, sum, mean"},
      {feature("\"op\": \"sum\""), "only count goes without a column"},
      {feature("\"op\": \"sum\", \"column\": \"nope\""), "choose"},
      {feature("\"op\": \"sum\", \"column\": \"s\""), "takes BIGINT or DOUBLE, got STRING"},
      {feature("\"op\": \"last\", \"column\": \"day\""), "CAST it to"},
      {feature("\"op\": \"count\", \"window_ms\": 10"), "$.features[0].tile_ms"},
      {feature("\"op\": \"count\", \"window\": 10"), "unknown field 'window'"},
      {feature("\"op\": \"share\", \"column\": \"d\""), "share takes BOOLEAN, got DOUBLE"},
      {feature("\"op\": \"count\", \"filter\": \"d\""), "a filter is BOOLEAN, got DOUBLE"},
      {feature("\"op\": \"count\", \"filter\": \"c\""), "choose"},
      {feature("\"op\": \"percentile\", \"column\": \"d\", \"q\": 1.5"), "$.features[0].q"},
      {feature("\"op\": \"last_n\", \"column\": \"d\""), "$.features[0].n"},
      {feature("\"op\": \"last\", \"column\": \"d\", \"n\": 2"), "only last_n takes n"},
    };
    for (String[] c : cases) {
      String message =
          assertThrows(ValidationException.class, () -> Spec.parse(c[0], INPUT)).getMessage();
      assertTrue(message.contains(c[1]) || c[1].equals("choose"), message);
    }
  }

  private static String feature(String fields) {
    return "{\"time\": \"rowtime\", \"features\": [{\"name\": \"x\", " + fields + "}]}";
  }
}
