package io.headwater.kernel.rolling;

import io.headwater.kernel.traces.RowTrace;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.ArrayNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

/**
 * The engine without a cluster, for {@code tests/test_rolling.py}: each line of input is a run,
 * each line of output what came of it.
 *
 * <p>A run is {@code {"spec": {...}, "columns": [["price", "DOUBLE"]], "commands": [["row", key,
 * time, [values]], ["watermark", time], ["restart"]]}}. The answer holds the emitted {@code rows},
 * the positions of the {@code late} commands, and the {@code bytes} of the state that is left. A
 * row of a spec with a trace ends in the traceparent it came out with, or null.
 */
final class Harness {

  private static final ObjectMapper JSON = new ObjectMapper();

  private final Spec spec;
  private final Engine engine;
  private final ColumnType[] types;
  private final Map<String, KeyState> states = new TreeMap<>();
  private final Map<String, TreeSet<Long>> timers = new TreeMap<>();
  private final ArrayNode rows = JSON.createArrayNode();
  private final ArrayNode late = JSON.createArrayNode();
  private long watermark = Long.MIN_VALUE;

  private Harness(JsonNode run) {
    JsonNode columns = run.path("columns");
    types = new ColumnType[columns.size()];
    LogicalType[] sqlTypes = new LogicalType[types.length + 1];
    String[] names = new String[types.length + 1];
    sqlTypes[types.length] = DataTypes.TIMESTAMP_LTZ(3).getLogicalType();
    names[types.length] = "rowtime";
    for (int i = 0; i < types.length; i++) {
      names[i] = columns.get(i).get(0).asText();
      types[i] = ColumnType.valueOf(columns.get(i).get(1).asText());
      DataType type = types[i].dataType();
      sqlTypes[i] = type.getLogicalType();
    }
    spec = Spec.parse(run.path("spec").toString(), RowType.of(sqlTypes, names));
    engine = new Engine(spec);
  }

  public static void main(String[] args) throws IOException {
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      ObjectNode answer;
      try {
        JsonNode run = JSON.readTree(line);
        answer = new Harness(run).run(run.path("commands"));
      } catch (RuntimeException | AssertionError e) {
        answer = JSON.createObjectNode().put("error", e.toString());
      }
      // ASCII only, whatever the encoding of the terminal.
      StringBuilder text = new StringBuilder();
      for (char c : answer.toString().toCharArray()) {
        text.append(c < 128 ? String.valueOf(c) : "\\u%04x".formatted((int) c));
      }
      System.out.println(text);
    }
  }

  private ObjectNode run(JsonNode commands) {
    for (int i = 0; i < commands.size(); i++) {
      JsonNode command = commands.get(i);
      switch (command.get(0).asText()) {
        case "row" -> {
          if (!row(command)) {
            late.add(i);
          }
        }
        case "watermark" -> advance(command.get(1).asLong());
        case "restart" ->
            states.replaceAll((k, state) -> KeyStateCodec.decode(KeyStateCodec.encode(state)));
        default -> throw new IllegalArgumentException(command.toString());
      }
    }
    int bytes = states.values().stream().mapToInt(s -> KeyStateCodec.encode(s).length).sum();
    ObjectNode answer = JSON.createObjectNode().put("states", states.size()).put("bytes", bytes);
    answer.set("rows", rows);
    answer.set("late", late);
    return answer;
  }

  /** As {@link Rolling#eval}; whether the row was not late. */
  private boolean row(JsonNode command) {
    String key = command.get(1).asText();
    long time = command.get(2).asLong();
    if (time <= watermark) {
      return false;
    }
    GenericRowData row = new GenericRowData(types.length + 1);
    row.setField(types.length, TimestampData.fromEpochMillis(time));
    for (int i = 0; i < types.length; i++) {
      JsonNode value = command.get(3).get(i);
      if (!value.isNull()) {
        row.setField(
            i,
            switch (types[i]) {
              case BIGINT -> (Object) value.asLong();
              case DOUBLE -> value.asDouble();
              case BOOLEAN -> value.asBoolean();
              case STRING -> StringData.fromString(value.asText());
            });
      }
    }
    KeyState state = states.computeIfAbsent(key, k -> engine.newState());
    engine.check(state);
    if (time <= state.handled) {
      throw new AssertionError("what was handled is not after the watermark");
    }
    engine.buffer(state, row, time);
    if (time < state.timer) {
      state.timer = time;
      timers.computeIfAbsent(key, k -> new TreeSet<>()).add(time);
    }
    return true;
  }

  private void advance(long to) {
    watermark = Math.max(watermark, to);
    for (String key : List.copyOf(states.keySet())) {
      KeyState state = states.get(key);
      TreeSet<Long> due = timers.get(key);
      while (state != null && !due.isEmpty() && due.first() <= watermark) {
        due.pollFirst();
        long next = engine.advance(state, watermark, row -> emit(key, row));
        if (engine.isEmpty(state)) {
          states.remove(key);
          state = null;
        } else {
          state.timer = next;
          if (next != KeyState.NEVER_DUE) {
            due.add(next);
          }
        }
      }
      if (state != null && state.timer != KeyState.NEVER_DUE && !due.contains(state.timer)) {
        throw new AssertionError("a state waits for a timer that is not set");
      }
    }
  }

  private void emit(String key, RowData data) {
    int trace = spec.features.length + 2;
    boolean sampled = spec.trace >= 0 && !data.isNullAt(trace);
    String traceparent = sampled ? RowTrace.parse(data.getString(trace).toString()).parent() : null;
    GenericRowData row = copy(spec, data);
    ArrayNode values = JSON.createArrayNode();
    for (int i = 0; i < spec.features.length; i++) {
      Object value = row.getField(i);
      values.addPOJO(value instanceof StringData ? value.toString() : value);
    }
    long time = row.getTimestamp(spec.features.length, 3).getMillisecond();
    ArrayNode emitted = rows.addArray().add(key).add(time).add(values);
    if (spec.trace >= 0) {
      emitted.add(traceparent);
    }
  }

  /** An emitted row, which the engine uses again for the next, as one to keep. */
  static GenericRowData copy(Spec spec, RowData row) {
    GenericRowData copy = new GenericRowData(row.getArity());
    for (int i = 0; i < spec.features.length; i++) {
      if (!row.isNullAt(i)) {
        copy.setField(
            i,
            switch (spec.features[i].type()) {
              case BIGINT -> (Object) row.getLong(i);
              case DOUBLE -> row.getDouble(i);
              case BOOLEAN -> row.getBoolean(i);
              case STRING -> row.getString(i);
            });
      }
    }
    copy.setField(spec.features.length, row.getTimestamp(spec.features.length, 3));
    return copy;
  }
}
