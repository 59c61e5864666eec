package io.headwater.kernel.rolling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.rolling.Oracle.Emitted;
import io.headwater.kernel.rolling.Oracle.Event;
import io.headwater.kernel.rolling.Oracle.Feature;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.BooleanType;
import org.apache.flink.table.types.logical.DateType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class EngineTest {

  private static final RowType INPUT =
      RowType.of(
          new LogicalType[] {
            new BigIntType(), new DoubleType(), new BooleanType(), new VarCharType(), new DateType()
          },
          new String[] {"i", "d", "b", "s", "day"});

  private static final List<Feature> ALL = new ArrayList<>();
  private static final List<Feature> EXTREMES = new ArrayList<>();

  static {
    // Columns 0 to 3 first, in this order: ties are ordered by the order of first use.
    for (long[] window : new long[][] {{60, 10}, {7, 10}, {25, 10}, {40, 1}, {90, 45}, {0, 0}}) {
      for (int column = 0; column < 4; column++) {
        ALL.add(new Feature("last", column, window[0], window[1]));
        ALL.add(new Feature("count", column, window[0], window[1]));
      }
      ALL.add(new Feature("count", -1, window[0], window[1]));
      for (int column = 0; column < 2; column++) {
        for (String op : new String[] {"sum", "mean", "min", "max", "stddev"}) {
          ALL.add(new Feature(op, column, window[0], window[1]));
        }
      }
    }
    for (int column = 0; column < 4; column++) {
      EXTREMES.add(new Feature("last", column, 50, 10));
    }
    EXTREMES.add(new Feature("max", 0, 50, 10));
    EXTREMES.add(new Feature("max", 0, 20, 10));
    EXTREMES.add(new Feature("min", 1, 30, 5));
  }

  private static Spec spec(List<Feature> features) {
    StringBuilder json = new StringBuilder("{\"disorder_ms\": 30, \"features\": [");
    for (int i = 0; i < features.size(); i++) {
      Feature f = features.get(i);
      json.append(i == 0 ? "" : ",")
          .append("{\"name\": \"f%d\", \"op\": \"%s\", \"column\": ".formatted(i, f.op()))
          .append(f.column() < 0 ? "null" : '"' + INPUT.getFieldNames().get(f.column()) + '"')
          .append(", \"window_ms\": ")
          .append(f.window() == 0 ? "null" : f.window())
          .append(f.window() == 0 ? "}" : ", \"tile_ms\": " + f.tile() + "}");
    }
    return Spec.parse(json.append("]}").toString(), INPUT);
  }

  /** The operator around the engine: watermarks, timers, late rows, and now and then a restart. */
  private static final class Driver {
    final Engine engine;
    final Map<String, KeyState> states = new HashMap<>();
    final Map<String, TreeSet<Long>> timers = new HashMap<>();
    final Map<String, List<Emitted>> out = new TreeMap<>();
    final List<Event> late = new ArrayList<>();
    final Random restarts;
    long watermark = Long.MIN_VALUE;

    Driver(Spec spec, Random restarts) {
      this.engine = new Engine(spec);
      this.restarts = restarts;
    }

    void row(Event e) throws Exception {
      if (e.time() <= watermark) {
        late.add(e);
        return;
      }
      KeyState state = states.computeIfAbsent(e.key(), k -> engine.newState());
      Object[] c = e.columns();
      engine.buffer(
          state,
          GenericRowData.of(c[0], c[1], c[2], StringData.fromString((String) c[3]), null),
          e.time(),
          at -> {
            assertTrue(at > watermark, "Flink ignores timers that the watermark passed");
            timers.computeIfAbsent(e.key(), k -> new TreeSet<>()).add(at);
          });
      if (restarts != null && restarts.nextInt(5) == 0) {
        states.put(e.key(), restart(state));
      }
    }

    void watermark(long to) throws Exception {
      watermark = Math.max(watermark, to);
      for (String key : List.copyOf(states.keySet())) {
        KeyState state = states.get(key);
        TreeSet<Long> due = timers.get(key);
        while (!due.isEmpty() && due.first() <= watermark) {
          long now = due.pollFirst();
          engine.handle(
              state,
              now,
              row -> {
                GenericRowData values = (GenericRowData) row;
                List<Object> list = new ArrayList<>();
                for (int i = 0; i < values.getArity(); i++) {
                  Object v = values.getField(i);
                  list.add(v instanceof StringData ? v.toString() : v);
                }
                out.computeIfAbsent(key, k -> new ArrayList<>()).add(new Emitted(now, list));
              });
          if (restarts != null && restarts.nextInt(5) == 0) {
            state = restart(state);
            states.put(key, state);
          }
        }
        if (engine.isEmpty(state)) {
          assertTrue(due.isEmpty());
          states.remove(key);
        }
      }
    }
  }

  private static KeyState restart(KeyState state) {
    return KeyStateCodec.decode(KeyStateCodec.encode(state));
  }

  private static List<Event> stream(Random random, int count, boolean exact) {
    List<Event> events = new ArrayList<>();
    long time = -200;
    for (int i = 0; i < count; i++) {
      time += random.nextInt(20) == 0 ? random.nextInt(300) : random.nextInt(4);
      Object[] columns = {
        random.nextInt(4) == 0 ? null : (Long) (long) (random.nextInt(21) - 10),
        random.nextInt(4) == 0
            ? null
            : (Double) (exact ? (random.nextInt(81) - 40) / 4.0 : random.nextGaussian() * 1e3),
        random.nextInt(4) == 0 ? null : (Boolean) random.nextBoolean(),
        random.nextInt(4) == 0 ? null : "s" + random.nextInt(5)
      };
      events.add(new Event("k" + random.nextInt(3), time, columns));
    }
    return events;
  }

  /** Each event is moved back by up to {@code disorder} of event time. */
  private static List<Event> disorder(List<Event> events, Random random, int disorder) {
    TreeMap<Long, List<Event>> arrival = new TreeMap<>();
    for (Event e : events) {
      arrival
          .computeIfAbsent(e.time() + random.nextInt(disorder + 1), t -> new ArrayList<>())
          .add(e);
    }
    List<Event> result = new ArrayList<>();
    arrival.values().forEach(result::addAll);
    return result;
  }

  private static Driver run(
      Spec spec, List<Event> arrivals, int bound, Random watermarks, Random restarts)
      throws Exception {
    Driver driver = new Driver(spec, restarts);
    long max = Long.MIN_VALUE;
    for (Event e : arrivals) {
      driver.row(e);
      max = Math.max(max, e.time());
      if (watermarks.nextInt(4) == 0) {
        driver.watermark(max - bound - 1);
      }
    }
    driver.watermark(Long.MAX_VALUE - 1);
    return driver;
  }

  private static void check(List<Feature> features, List<Event> events, Driver driver) {
    Map<String, List<Event>> byKey = new TreeMap<>();
    for (Event e : events) {
      if (driver.late.stream().noneMatch(l -> l == e)) {
        byKey.computeIfAbsent(e.key(), k -> new ArrayList<>()).add(e);
      }
    }
    assertEquals(byKey.keySet(), driver.out.keySet());
    byKey.forEach(
        (key, rows) -> {
          List<Emitted> expected = Oracle.run(features, rows);
          List<Emitted> actual = driver.out.get(key);
          for (int i = 0; i < Math.min(expected.size(), actual.size()); i++) {
            assertEquals(expected.get(i).time(), actual.get(i).time(), key + " row " + i);
            for (int f = 0; f < features.size(); f++) {
              Object want = expected.get(i).values().get(f);
              Object got = actual.get(i).values().get(f);
              String where = key + " at " + expected.get(i).time() + " " + features.get(f);
              if (features.get(f).op().equals("stddev") && want != null) {
                assertNotNull(got, where);
                assertEquals((Double) want, (Double) got, 1e-9, where);
              } else {
                assertEquals(want, got, where);
              }
            }
          }
          assertEquals(expected.size(), actual.size(), key);
        });
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
  void everyRowEqualsTheOracles(long seed) throws Exception {
    Random random = new Random(seed);
    for (List<Feature> features : List.of(ALL, EXTREMES)) {
      List<Event> events = stream(random, 400, true);
      Driver driver = run(spec(features), disorder(events, random, 30), 30, random, random);
      assertTrue(driver.late.isEmpty());
      check(features, events, driver);
      boolean lifetime = features == ALL;
      assertEquals(lifetime ? 3 : 0, driver.states.size(), "state kept only for lifetime features");
    }
  }

  @Test
  void lateRowsAreCountedAndChangeNothing() throws Exception {
    Random random = new Random(9);
    List<Event> events = stream(random, 600, true);
    Driver driver = run(spec(ALL), disorder(events, random, 60), 10, random, random);
    assertTrue(driver.late.size() > 10);
    check(ALL, events, driver);
  }

  @ParameterizedTest
  @ValueSource(longs = {11, 12, 13})
  void liveAndReplayAgreeBitForBit(long seed) throws Exception {
    Random random = new Random(seed);
    List<Event> events = stream(random, 500, false);
    Map<String, List<Emitted>> live =
        run(spec(ALL), disorder(events, random, 50), 50, random, random).out;
    Map<String, List<Emitted>> replay = run(spec(ALL), events, 0, random, null).out;
    assertEquals(replay, live);
  }

  @Test
  void stateOfAnotherSpecIsRefused() {
    KeyState state = new Engine(spec(EXTREMES)).newState();
    assertThrows(RuntimeException.class, () -> new Engine(spec(ALL)).check(state));
  }

  @Test
  void errorsNameThePathAndTheChoices() {
    String[][] cases = {
      {"{", "not JSON"},
      {"{\"features\": []}", "$.features"},
      {feature("\"op\": \"median\""), "choose of count, sum, mean"},
      {feature("\"op\": \"sum\""), "only count goes without a column"},
      {feature("\"op\": \"sum\", \"column\": \"nope\""), "choose"},
      {feature("\"op\": \"sum\", \"column\": \"s\""), "takes BIGINT or DOUBLE, got STRING"},
      {feature("\"op\": \"last\", \"column\": \"day\""), "CAST it to"},
      {feature("\"op\": \"count\", \"window_ms\": 10"), "$.features[0].tile_ms"},
      {feature("\"op\": \"count\", \"window\": 10"), "unknown field 'window'"},
    };
    for (String[] c : cases) {
      String message =
          assertThrows(ValidationException.class, () -> Spec.parse(c[0], INPUT)).getMessage();
      assertTrue(message.contains(c[1]) || c[1].equals("choose"), message);
    }
  }

  private static String feature(String fields) {
    return "{\"features\": [{\"name\": \"x\", " + fields + "}]}";
  }
}
