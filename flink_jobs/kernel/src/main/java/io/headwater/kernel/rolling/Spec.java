package io.headwater.kernel.rolling;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.types.logical.RowType;

/**
 * The features of one {@code rolling} call, checked against the table they read.
 *
 * <p>Parsed from JSON: {@code {"disorder_ms": 300000, "features": [{"name": "delay_mean_1h", "op":
 * "mean", "column": "delay", "window_ms": 3600000, "tile_ms": 60000}]}}. Operations: count (without
 * column: of rows), sum, mean, min, max, stddev (of the population), last. {@code window_ms} null
 * means the key's lifetime. {@code disorder_ms} states the stream's bound; the watermark enforces
 * it.
 */
final class Spec implements Serializable {

  private static final long serialVersionUID = 1L;
  private static final String OPS = "count, sum, mean, min, max, stddev, last";

  /** What a feature makes of its accumulator. */
  enum Op {
    COUNT,
    SUM,
    MEAN,
    MIN,
    MAX,
    STDDEV,
    LAST
  }

  /** A column that features read: its position in the input row. */
  record Column(String name, int position, ColumnType type) implements Serializable {}

  /** A feature: {@code window} is an index into {@link #windows}, or -1 for the lifetime. */
  record Feature(String name, Op op, ColumnType type, int window, Layout.Slot slot)
      implements Serializable {}

  /** Tiles of one edge length and what they hold. */
  record Lane(long tile, Layout layout) implements Serializable {}

  /** A window over a lane; {@code slots} are the accumulators that its features need. */
  record Window(int lane, long size, int[] slots) implements Serializable {}

  final Column[] columns;
  final Feature[] features;
  final Lane[] lanes;
  final Window[] windows;
  final Layout life;
  final int fingerprint;
  final boolean hasStrings;

  private Spec(
      List<Column> columns,
      List<Feature> features,
      List<Lane> lanes,
      List<Window> windows,
      Layout life,
      String canonical) {
    this.columns = columns.toArray(Column[]::new);
    this.features = features.toArray(Feature[]::new);
    this.lanes = lanes.toArray(Lane[]::new);
    this.windows = windows.toArray(Window[]::new);
    this.life = life;
    this.fingerprint = canonical.hashCode();
    this.hasStrings = columns.stream().anyMatch(c -> c.type == ColumnType.STRING);
  }

  /** Parses and checks; every error names the path in the document and the choices. */
  static Spec parse(String json, RowType input) {
    JsonNode root;
    try {
      root = new ObjectMapper().readTree(json);
    } catch (JsonProcessingException e) {
      throw new ValidationException("rolling: spec is not JSON: " + e.getOriginalMessage(), e);
    }
    only(root, "$", List.of("disorder_ms", "features"));
    if (root.hasNonNull("disorder_ms")) {
      millis(root, "disorder_ms", "$", 0);
    }
    JsonNode list = root.path("features");
    if (!list.isArray() || list.isEmpty()) {
      throw new ValidationException("rolling: expected a list of features - at $.features");
    }
    Builder builder = new Builder(input);
    for (int i = 0; i < list.size(); i++) {
      builder.feature(list.get(i), "$.features[" + i + "]");
    }
    return builder.build();
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
    private final List<Column> columns = new ArrayList<>();
    private final List<Feature> features = new ArrayList<>();
    private final List<Lane> lanes = new ArrayList<>();
    private final List<Window> windows = new ArrayList<>();
    private final Layout life = new Layout();
    private final StringBuilder canonical = new StringBuilder();

    Builder(RowType input) {
      this.input = input;
    }

    void feature(JsonNode node, String path) {
      only(node, path, List.of("name", "op", "column", "window_ms", "tile_ms"));
      String name = node.path("name").asText("");
      if (name.isEmpty() || features.stream().anyMatch(f -> f.name.equals(name))) {
        throw new ValidationException(
            "rolling: expected a name of its own, got '" + name + "' - at " + path + ".name");
      }
      Op op = op(node.path("op").asText(""), path);
      int column = column(node.path("column"), op, path);
      ColumnType type = column < 0 ? null : columns.get(column).type;
      if (!(op == Op.COUNT || op == Op.LAST || type.isNumber())) {
        throw new ValidationException(
            "rolling: %s takes BIGINT or DOUBLE, got %s - at %s.column"
                .formatted(op.name().toLowerCase(java.util.Locale.ROOT), type, path));
      }
      int window = -1;
      Layout layout = life;
      if (node.hasNonNull("window_ms")) {
        long size = millis(node, "window_ms", path, 1);
        int lane = lane(millis(node, "tile_ms", path, 1));
        window = window(lane, size);
        layout = lanes.get(lane).layout;
      }
      int slot = layout.declare(kind(op), column, type);
      if (window >= 0) {
        addSlot(window, slot);
      }
      features.add(new Feature(name, op, output(op, type), window, layout.slot(slot)));
      canonical
          .append(kind(op))
          .append('(')
          .append(column < 0 ? "*" : columns.get(column).name + " " + type)
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

    private int column(JsonNode node, Op op, String path) {
      if (node.isNull() || node.isMissingNode()) {
        if (op != Op.COUNT) {
          throw new ValidationException(
              "rolling: only count goes without a column - at " + path + ".column");
        }
        return -1;
      }
      String name = node.asText();
      int position = input.getFieldIndex(name);
      if (position < 0) {
        throw new ValidationException(
            "rolling: no column '%s', choose of %s - at %s.column"
                .formatted(name, input.getFieldNames(), path));
      }
      ColumnType type = ColumnType.of(input.getTypeAt(position));
      if (type == null) {
        throw new ValidationException(
            "rolling: column '%s' is %s; CAST it to BIGINT, DOUBLE, STRING or BOOLEAN - at %s.column"
                .formatted(name, input.getTypeAt(position), path));
      }
      Column column = new Column(name, position, type);
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
          windows, w -> w.lane == lane && w.size == size, () -> new Window(lane, size, new int[0]));
    }

    private static <T> int find(
        List<T> list, Function<T, Boolean> test, java.util.function.Supplier<T> make) {
      for (int i = 0; i < list.size(); i++) {
        if (test.apply(list.get(i))) {
          return i;
        }
      }
      list.add(make.get());
      return list.size() - 1;
    }

    private void addSlot(int window, int slot) {
      Window w = windows.get(window);
      int[] slots =
          java.util.stream.IntStream.concat(
                  java.util.Arrays.stream(w.slots), java.util.stream.IntStream.of(slot))
              .distinct()
              .toArray();
      windows.set(window, new Window(w.lane, w.size, slots));
    }

    Spec build() {
      return new Spec(columns, features, lanes, windows, life, canonical.toString());
    }
  }

  private static Layout.Kind kind(Op op) {
    return switch (op) {
      case COUNT -> Layout.Kind.COUNT;
      case SUM, MEAN -> Layout.Kind.SUM;
      case MIN -> Layout.Kind.MIN;
      case MAX -> Layout.Kind.MAX;
      case STDDEV -> Layout.Kind.VARIANCE;
      case LAST -> Layout.Kind.LAST;
    };
  }

  private static ColumnType output(Op op, ColumnType column) {
    return switch (op) {
      case COUNT -> ColumnType.BIGINT;
      case MEAN, STDDEV -> ColumnType.DOUBLE;
      default -> column;
    };
  }
}
