package io.headwater.kernel.rolling;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.function.ToIntFunction;
import java.util.stream.IntStream;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.types.logical.LogicalTypeFamily;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.utils.LogicalTypeChecks;

/**
 * The features of one {@code rolling} call, checked against the table they read.
 *
 * <p>Parsed from JSON: {@code {"time": "rowtime", "features": [{"name": "delay_mean_1h", "op":
 * "mean", "column": "delay", "window_ms": 3600000, "tile_ms": 60000}]}}. Operations: count (without
 * column: of rows), sum, mean, min, max, stddev and variance (of the population), first, last,
 * share (of the rows whose BOOLEAN column is true), distinct, percentile (with {@code "q"}) and
 * last_n (with {@code "n"}; a JSON array). {@code "filter"} names a BOOLEAN column: only rows where
 * it is true count. {@code window_ms} null means the key's lifetime. {@code time} names the column
 * of the event time, {@code keys}, where a partition is a shard of many, those of a key, {@code
 * trace}, where there is one, the STRING column of traceparents, which are carried and no part of
 * any value or of the fingerprint.
 */
final class Spec implements Serializable {

  private static final long serialVersionUID = 1L;
  private static final int MOST_NEWEST = 1000;
  private static final int[] NONE = {};
  private static final String OPS =
      "count, sum, mean, min, max, stddev, variance, first, last, share, distinct, percentile,"
          + " last_n";

  /** What a feature makes of its accumulator. */
  enum Op {
    COUNT,
    SUM,
    MEAN,
    MIN,
    MAX,
    STDDEV,
    LAST,
    VARIANCE,
    FIRST,
    SHARE,
    DISTINCT,
    PERCENTILE,
    LAST_N
  }

  /** A column that features read: its position in the input row. */
  record Column(String name, int position, ColumnType type) implements Serializable {}

  /**
   * A feature: {@code window} is an index into {@link #windows}, or -1 for the lifetime; {@code
   * parameter} is the q of a percentile in millionths; {@code sketch} is an index into the window's
   * distincts, newest or quantiles, or -1.
   */
  record Feature(
      String name, Op op, ColumnType type, int window, Layout.Slot slot, int parameter, int sketch)
      implements Serializable {}

  /** Tiles of one edge length and what they hold. */
  record Lane(long tile, Layout layout) implements Serializable {}

  /**
   * A window over a lane. Of the accumulators that its features need, {@code merged} are merged for
   * each value, {@code kept} between values, {@code distincts}, {@code newest} and {@code
   * quantiles} have ways of their own. {@code countsRows}: one is the count of all rows.
   */
  record Window(
      int lane,
      long size,
      int[] merged,
      int[] kept,
      int[] distincts,
      int[] newest,
      int[] quantiles,
      boolean countsRows)
      implements Serializable {

    /** This window, with a feature of {@code slot} at that index. */
    Window with(int index, Layout.Slot slot) {
      Layout.Kind kind = slot.kind();
      return new Window(
          lane,
          size,
          kind.isSketch() ? merged : add(merged, index),
          kind == Layout.Kind.QUANTILES ? kept : add(kept, index),
          kind == Layout.Kind.DISTINCT ? add(distincts, index) : distincts,
          kind == Layout.Kind.NEWEST ? add(newest, index) : newest,
          kind == Layout.Kind.QUANTILES ? add(quantiles, index) : quantiles,
          countsRows || kind == Layout.Kind.COUNT && slot.column() < 0 && slot.filter() < 0);
    }

    private static int[] add(int[] to, int index) {
      return IntStream.concat(Arrays.stream(to), IntStream.of(index)).distinct().toArray();
    }

    /** Where a slot's sketch stands among its like, -1 if it has none. */
    int sketch(int index, Layout.Slot slot) {
      int[] all =
          switch (slot.kind()) {
            case DISTINCT -> distincts;
            case NEWEST -> newest;
            case QUANTILES -> quantiles;
            default -> new int[0];
          };
      return IntStream.range(0, all.length).filter(i -> all[i] == index).findFirst().orElse(-1);
    }
  }

  /** Position of the column that holds a row's event time. */
  final int time;

  /** Position of the column that holds a sampled row's traceparent, -1 if there is none. */
  final int trace;

  /** The columns of the key, where a partition is of several keys; none where it is of one. */
  final Column[] keys;

  final Column[] columns;
  final Feature[] features;
  final Lane[] lanes;
  final Window[] windows;

  /** Of each window, positions of its features. */
  final int[][] featuresOf;

  /** Of each lane, the windows over it. */
  final int[][] windowsOf;

  final int[] lifetimeFeatures;
  final Layout life;
  final int fingerprint;
  final boolean hasStrings;

  private Spec(
      int time,
      int trace,
      Column[] keys,
      List<Column> columns,
      List<Feature> features,
      List<Lane> lanes,
      List<Window> windows,
      Layout life,
      String canonical) {
    this.time = time;
    this.trace = trace;
    this.keys = keys;
    this.columns = columns.toArray(Column[]::new);
    this.features = features.toArray(Feature[]::new);
    this.lanes = lanes.toArray(Lane[]::new);
    this.windows = windows.toArray(Window[]::new);
    this.featuresOf = positions(windows.size(), features, Feature::window);
    this.windowsOf = positions(lanes.size(), windows, Window::lane);
    this.lifetimeFeatures = positions(features, feature -> feature.window < 0);
    this.life = life;
    this.fingerprint = canonical.hashCode();
    this.hasStrings = columns.stream().anyMatch(c -> c.type == ColumnType.STRING);
  }

  /** For each of {@code groups}, where those of it stand in a list. */
  private static <T> int[][] positions(int groups, List<T> list, ToIntFunction<T> group) {
    return IntStream.range(0, groups)
        .mapToObj(i -> positions(list, one -> group.applyAsInt(one) == i))
        .toArray(int[][]::new);
  }

  private static <T> int[] positions(List<T> list, Predicate<T> test) {
    return IntStream.range(0, list.size()).filter(i -> test.test(list.get(i))).toArray();
  }

  /** The columns of what is emitted: the features, the time, a late row and, if asked, a trace. */
  int width() {
    return features.length + (trace < 0 ? 2 : 3) + keys.length;
  }

  /** Parses and checks; every error names the path in the document and the choices. */
  static Spec parse(String json, RowType input) {
    JsonNode root;
    try {
      root = new ObjectMapper().readTree(json);
    } catch (JsonProcessingException e) {
      throw new ValidationException("rolling: spec is not JSON: " + e.getOriginalMessage(), e);
    }
    only(root, "$", List.of("time", "keys", "trace", "features"));
    JsonNode list = root.path("features");
    if (!list.isArray() || list.isEmpty()) {
      throw new ValidationException("rolling: expected a list of features - at $.features");
    }
    Builder builder =
        new Builder(
            input,
            time(root.path("time").asText(""), input),
            root.has("trace") ? trace(root.path("trace").asText(), input) : -1,
            root.has("keys") ? keys(root.path("keys"), input) : new Column[0]);
    for (int i = 0; i < list.size(); i++) {
      builder.feature(list.get(i), "$.features[" + i + "]");
    }
    return builder.build();
  }

  private static int time(String name, RowType input) {
    int position = input.getFieldIndex(name);
    if (position < 0
        || !input.getTypeAt(position).isAnyOf(LogicalTypeFamily.TIMESTAMP)
        || LogicalTypeChecks.getPrecision(input.getTypeAt(position)) != 3) {
      throw new ValidationException(
          "rolling: expected the name of a TIMESTAMP(3) or TIMESTAMP_LTZ(3), got '%s', choose of %s"
                  .formatted(name, input)
              + " - at $.time");
    }
    return position;
  }

  private static int trace(String name, RowType input) {
    int position = input.getFieldIndex(name);
    if (position < 0 || ColumnType.of(input.getTypeAt(position)) != ColumnType.STRING) {
      throw new ValidationException(
          "rolling: expected the name of a STRING column, got '%s', choose of %s - at $.trace"
              .formatted(name, input));
    }
    return position;
  }

  private static Column[] keys(JsonNode list, RowType input) {
    if (!list.isArray() || list.isEmpty()) {
      throw new ValidationException("rolling: expected a list of columns - at $.keys");
    }
    Column[] keys = new Column[list.size()];
    for (int i = 0; i < keys.length; i++) {
      keys[i] = column(list.get(i), "$.keys[" + i + "]", input);
    }
    return keys;
  }

  private static Column column(JsonNode node, String path, RowType input) {
    String name = node.asText();
    int position = input.getFieldIndex(name);
    if (position < 0) {
      throw new ValidationException(
          "rolling: no column '%s', choose of %s - at %s"
              .formatted(name, input.getFieldNames(), path));
    }
    ColumnType type = ColumnType.of(input.getTypeAt(position));
    if (type == null) {
      throw new ValidationException(
          "rolling: column '%s' is %s; CAST it to BIGINT, DOUBLE, STRING or BOOLEAN - at %s"
              .formatted(name, input.getTypeAt(position), path));
    }
    return new Column(name, position, type);
  }

  private static void only(JsonNode node, String path, List<String> known) {
    if (!node.isObject()) {
      throw new ValidationException("rolling: expected an object - at " + path);
    }
    node.fieldNames()
        .forEachRemaining(
            name -> {
              if (!known.contains(name)) {
                throw new ValidationException(
                    "rolling: unknown field '" + name + "', choose of " + known + " - at " + path);
              }
            });
  }

  private static long millis(JsonNode node, String field, String path, long least) {
    JsonNode value = node.path(field);
    if (!value.isIntegralNumber() || value.asLong() < least) {
      throw new ValidationException(
          "rolling: expected milliseconds of at least %d, got %s - at %s.%s"
              .formatted(least, value.isMissingNode() ? "nothing" : value, path, field));
    }
    return value.asLong();
  }

  private static final class Builder {
    private final RowType input;
    private final int time;
    private final int trace;
    private final Column[] keys;
    private final List<Column> columns = new ArrayList<>();
    private final List<Feature> features = new ArrayList<>();
    private final List<Lane> lanes = new ArrayList<>();
    private final List<Window> windows = new ArrayList<>();
    private final Layout life = new Layout();
    private final StringBuilder canonical = new StringBuilder();

    Builder(RowType input, int time, int trace, Column[] keys) {
      this.input = input;
      this.time = time;
      this.trace = trace;
      this.keys = keys;
      for (Column key : keys) {
        canonical.append("by ").append(key.name).append(' ').append(key.type).append(';');
      }
    }

    void feature(JsonNode node, String path) {
      only(node, path, List.of("name", "op", "column", "filter", "q", "n", "window_ms", "tile_ms"));
      String name = node.path("name").asText("");
      if (name.isEmpty()
          || features.stream().anyMatch(f -> f.name.equals(name))
          || Arrays.stream(keys).anyMatch(key -> key.name.equals(name))) {
        throw new ValidationException(
            "rolling: expected a name of its own, got '" + name + "' - at " + path + ".name");
      }
      Op op = op(node.path("op").asText(""), path);
      int column = -1;
      if (node.hasNonNull("column")) {
        column = column(node.path("column"), path + ".column");
      } else if (op != Op.COUNT) {
        throw new ValidationException(
            "rolling: only count goes without a column - at " + path + ".column");
      }
      ColumnType type = column < 0 ? null : columns.get(column).type;
      if (!takes(op, type)) {
        throw new ValidationException(
            "rolling: %s takes %s, got %s - at %s.column"
                .formatted(
                    op.name().toLowerCase(java.util.Locale.ROOT),
                    op == Op.SHARE ? "BOOLEAN" : "BIGINT or DOUBLE",
                    type,
                    path));
      }
      int filter = -1;
      if (node.hasNonNull("filter")) {
        filter = column(node.path("filter"), path + ".filter");
        if (columns.get(filter).type != ColumnType.BOOLEAN) {
          throw new ValidationException(
              "rolling: a filter is BOOLEAN, got %s - at %s.filter"
                  .formatted(columns.get(filter).type, path));
        }
      }
      int parameter = parameter(node, op, path);
      int window = -1;
      Layout layout = life;
      if (node.hasNonNull("window_ms")) {
        long tile = millis(node, "tile_ms", path, 1);
        long size = millis(node, "window_ms", path, 1);
        if (size % tile != 0) {
          throw new ValidationException(
              "rolling: expected a multiple of the tile %d, got %d - at %s.window_ms"
                  .formatted(tile, size, path));
        }
        int lane = lane(tile);
        window = window(lane, size);
        layout = lanes.get(lane).layout;
      }
      // Percentiles of one column share a sketch, whatever their q.
      int kept = op == Op.PERCENTILE ? 0 : parameter;
      int slot = layout.declare(kind(op), column, type, filter, kept);
      int sketch = -1;
      if (window >= 0) {
        windows.set(window, windows.get(window).with(slot, layout.slot(slot)));
        sketch = windows.get(window).sketch(slot, layout.slot(slot));
      }
      features.add(
          new Feature(name, op, output(op, type), window, layout.slot(slot), parameter, sketch));
      canonical
          .append(kind(op))
          .append('(')
          .append(column < 0 ? "*" : columns.get(column).name + " " + type)
          .append(filter < 0 ? "" : " if " + columns.get(filter).name)
          .append(kept == 0 ? "" : " " + kept)
          .append(") ")
          .append(window < 0 ? "life" : windows.get(window).size)
          .append('/')
          .append(window < 0 ? "" : lanes.get(windows.get(window).lane).tile)
          .append(';');
    }

    private static Op op(String text, String path) {
      for (Op op : Op.values()) {
        if (op.name().equalsIgnoreCase(text)) {
          return op;
        }
      }
      throw new ValidationException(
          "rolling: unknown op '" + text + "', choose of " + OPS + " - at " + path + ".op");
    }

    /** The q of a percentile in millionths, the n of last_n, or 0 for the others. */
    private static int parameter(JsonNode node, Op op, String path) {
      String field = op == Op.PERCENTILE ? "q" : "n";
      boolean takes = op == Op.PERCENTILE || op == Op.LAST_N;
      for (String other : List.of("q", "n")) {
        if (node.hasNonNull(other) && !(takes && other.equals(field))) {
          throw new ValidationException(
              "rolling: only percentile takes q, only last_n takes n - at " + path + "." + other);
        }
      }
      if (!takes) {
        return 0;
      }
      JsonNode value = node.path(field);
      boolean good =
          op == Op.PERCENTILE
              ? value.isNumber() && value.asDouble() > 0 && value.asDouble() <= 1
              : value.isInt() && value.asInt() > 0 && value.asInt() <= MOST_NEWEST;
      if (!good) {
        throw new ValidationException(
            "rolling: expected %s, got %s - at %s.%s"
                .formatted(
                    op == Op.PERCENTILE
                        ? "a number above 0, at most 1"
                        : "a whole number of 1 to " + MOST_NEWEST,
                    value.isMissingNode() ? "nothing" : value,
                    path,
                    field));
      }
      return op == Op.PERCENTILE ? (int) Math.round(value.asDouble() * 1e6) : value.asInt();
    }

    private int column(JsonNode node, String path) {
      Column column = Spec.column(node, path, input);
      if (!columns.contains(column)) {
        if (columns.size() == BufferedRow.MAX_COLUMNS) {
          throw new ValidationException(
              "rolling: a call reads at most " + BufferedRow.MAX_COLUMNS + " columns - at " + path);
        }
        columns.add(column);
      }
      return columns.indexOf(column);
    }

    private int lane(long tile) {
      return find(lanes, l -> l.tile == tile, () -> new Lane(tile, new Layout()));
    }

    private int window(int lane, long size) {
      return find(
          windows,
          w -> w.lane == lane && w.size == size,
          () -> new Window(lane, size, NONE, NONE, NONE, NONE, NONE, false));
    }

    private static <T> int find(List<T> list, Function<T, Boolean> test, Supplier<T> make) {
      for (int i = 0; i < list.size(); i++) {
        if (test.apply(list.get(i))) {
          return i;
        }
      }
      list.add(make.get());
      return list.size() - 1;
    }

    Spec build() {
      return new Spec(
          time, trace, keys, columns, features, lanes, windows, life, canonical.toString());
    }
  }

  private static boolean takes(Op op, ColumnType type) {
    return switch (op) {
      case COUNT, FIRST, LAST, LAST_N, DISTINCT -> true;
      case SHARE -> type == ColumnType.BOOLEAN;
      default -> type.isNumber();
    };
  }

  private static Layout.Kind kind(Op op) {
    return switch (op) {
      case COUNT -> Layout.Kind.COUNT;
      case SUM, MEAN -> Layout.Kind.SUM;
      case MIN -> Layout.Kind.MIN;
      case MAX -> Layout.Kind.MAX;
      case STDDEV, VARIANCE -> Layout.Kind.VARIANCE;
      case LAST -> Layout.Kind.LAST;
      case FIRST -> Layout.Kind.FIRST;
      case SHARE -> Layout.Kind.SHARE;
      case DISTINCT -> Layout.Kind.DISTINCT;
      case PERCENTILE -> Layout.Kind.QUANTILES;
      case LAST_N -> Layout.Kind.NEWEST;
    };
  }

  private static ColumnType output(Op op, ColumnType column) {
    return switch (op) {
      case COUNT, DISTINCT -> ColumnType.BIGINT;
      case MEAN, STDDEV, VARIANCE, SHARE, PERCENTILE -> ColumnType.DOUBLE;
      case LAST_N -> ColumnType.STRING;
      default -> column;
    };
  }
}
