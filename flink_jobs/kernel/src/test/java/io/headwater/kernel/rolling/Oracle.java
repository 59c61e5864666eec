package io.headwater.kernel.rolling;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.TreeSet;

/** Rolling features, slow and obvious: each value is computed from all rows of the key. */
final class Oracle {

  /** A row as the test made it; columns are Long, Double, Boolean, String or null. */
  record Event(String key, long time, Object... columns) {}

  /** A feature of the spec under test; {@code window} 0 is the lifetime, {@code column} -1 rows. */
  record Feature(String op, int column, long window, long tile) {}

  /** One emitted row. */
  record Emitted(long time, List<Object> values) {}

  private Oracle() {}

  /** What must be emitted for the events of one key, none of them late. */
  static List<Emitted> run(List<Feature> features, List<Event> events) {
    TreeSet<Long> instants = new TreeSet<>();
    TreeSet<Long> times = new TreeSet<>();
    for (Event e : events) {
      times.add(e.time);
      for (Feature f : features) {
        if (f.window > 0) {
          // The right edge of the event's tile, a window later.
          long edge = -Math.floorDiv(-e.time, f.tile) * f.tile;
          instants.add(edge + f.window);
        }
      }
    }
    instants.addAll(times);
    List<Event> sorted = new ArrayList<>(events);
    sorted.sort(Comparator.comparingLong(Event::time).thenComparing(Oracle::compareContent));
    List<Emitted> out = new ArrayList<>();
    List<Object> previous = null;
    for (long t : instants) {
      List<Object> now = new ArrayList<>();
      for (Feature f : features) {
        now.add(value(f, sorted, t));
      }
      if (times.contains(t) || !now.equals(previous)) {
        out.add(new Emitted(t, now));
      }
      previous = now;
    }
    return out;
  }

  /** Ties: first by which columns are null, read as a binary number, then column by column. */
  private static int compareContent(Event a, Event b) {
    for (int i = a.columns.length - 1; i >= 0; i--) {
      int order = Boolean.compare(a.columns[i] == null, b.columns[i] == null);
      if (order != 0) {
        return order;
      }
    }
    for (boolean strings : new boolean[] {false, true}) {
      for (int i = 0; i < a.columns.length; i++) {
        if (a.columns[i] != null && a.columns[i] instanceof String == strings) {
          int order =
              strings
                  ? ((String) a.columns[i]).compareTo((String) b.columns[i])
                  : Long.compare(bits(a.columns[i]), bits(b.columns[i]));
          if (order != 0) {
            return order;
          }
        }
      }
    }
    return 0;
  }

  private static long bits(Object x) {
    return x instanceof Boolean b
        ? (b ? 1 : 0)
        : x instanceof Double d ? Double.doubleToLongBits(d) : (Long) x;
  }

  private static Object value(Feature f, List<Event> sorted, long t) {
    long low = f.window == 0 ? Long.MIN_VALUE : Math.floorDiv(t - f.window, f.tile) * f.tile;
    List<Object> seen = new ArrayList<>();
    for (Event e : sorted) {
      if (e.time > low && e.time <= t) {
        seen.add(f.column < 0 ? e : e.columns[f.column]);
      }
    }
    seen.removeIf(Objects::isNull);
    if (f.op.equals("count")) {
      return (long) seen.size();
    }
    if (seen.isEmpty()) {
      return null;
    }
    if (f.op.equals("last")) {
      return seen.get(seen.size() - 1);
    }
    boolean whole = seen.get(0) instanceof Long;
    double[] x = seen.stream().mapToDouble(v -> ((Number) v).doubleValue()).toArray();
    double sum = Arrays.stream(x).sum();
    double mean = sum / x.length;
    double result =
        switch (f.op) {
          case "sum" -> sum;
          case "mean" -> mean;
          case "min" -> Arrays.stream(x).min().getAsDouble();
          case "max" -> Arrays.stream(x).max().getAsDouble();
          case "stddev" ->
              Math.sqrt(Arrays.stream(x).map(v -> (v - mean) * (v - mean)).sum() / x.length);
          default -> throw new IllegalArgumentException(f.op);
        };
    if (whole && !f.op.equals("mean") && !f.op.equals("stddev")) {
      return (long) result;
    }
    return result;
  }
}
