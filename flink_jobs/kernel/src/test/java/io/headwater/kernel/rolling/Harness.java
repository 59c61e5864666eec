package io.headwater.kernel.rolling;

import io.headwater.kernel.traces.RowTrace;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.TreeSet;
import org.apache.flink.core.memory.DataInputDeserializer;
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
 * The keys of a shard without a cluster, for {@code tests/test_rolling.py}: each line of input is a
 * run, each line of output what came of it.
 *
 * <p>A run is {@code {"spec": {...}, "columns": [["price", "DOUBLE"]], "commands": [["row", key,
 * time, [values]], ["watermark", time], ["restart"]], "few": 0}}, where so many keys are kept as
 * objects. The answer holds the emitted {@code rows}, the positions of the {@code late} commands,
 * of how many keys {@code states} are left, and the {@code bytes} of these. A row of a spec with a
 * trace ends in the traceparent it came out with, or null.
 */
final class Harness {

  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String KEY = "key";

  private final Spec spec;
  private final Keys keys;
  private final ColumnType[] types;
  private Shard shard;
  private final TreeSet<Long> timers = new TreeSet<>();
  private final ArrayNode rows = JSON.createArrayNode();
  private final ArrayNode late = JSON.createArrayNode();
  private long watermark = Long.MIN_VALUE;

  private Harness(JsonNode run) {
    JsonNode columns = run.path("columns");
    types = new ColumnType[columns.size()];
    LogicalType[] sqlTypes = new LogicalType[types.length + 2];
    String[] names = new String[types.length + 2];
    sqlTypes[types.length] = DataTypes.TIMESTAMP_LTZ(3).getLogicalType();
    names[types.length] = "rowtime";
    sqlTypes[types.length + 1] = DataTypes.STRING().getLogicalType();
    names[types.length + 1] = KEY;
    for (int i = 0; i < types.length; i++) {
      names[i] = columns.get(i).get(0).asText();
      types[i] = ColumnType.valueOf(columns.get(i).get(1).asText());
      DataType type = types[i].dataType();
      sqlTypes[i] = type.getLogicalType();
    }
    ObjectNode json = run.path("spec").deepCopy();
    json.putArray("keys").add(KEY);
    spec = Spec.parse(json.toString(), RowType.of(sqlTypes, names));
    keys = new Keys(spec, Shards.ON_HEAP, run.path("few").asInt());
    shard = keys.newShard();
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
        case "restart" -> shard = Shard.read(shard.write());
        default -> throw new IllegalArgumentException(command.toString());
      }
    }
    int bytes = 0;
    for (int slot = 0; slot < shard.size(); slot++) {
      bytes += KeyStateCodec.encode(shard.load(slot, new DataInputDeserializer())).length;
    }
    ObjectNode answer = JSON.createObjectNode().put("states", shard.size()).put("bytes", bytes);
    answer.set("rows", rows);
    answer.set("late", late);
    return answer;
  }

  /** As {@link Rolling#eval}; whether the row was not late. */
  private boolean row(JsonNode command) {
    long time = command.get(2).asLong();
    if (time <= watermark) {
      return false;
    }
    GenericRowData row = new GenericRowData(types.length + 2);
    row.setField(types.length, TimestampData.fromEpochMillis(time));
    row.setField(types.length + 1, StringData.fromString(command.get(1).asText()));
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
    if (!keys.add(shard, row, time, timers::add)) {
      throw new AssertionError("what was handled is not after the watermark");
    }
    return true;
  }

  private void advance(long to) {
    watermark = Math.max(watermark, to);
    while (!timers.isEmpty() && timers.first() <= watermark) {
      timers.pollFirst();
      keys.advance(shard, watermark, this::emit, timers::add);
    }
    for (int slot = 0; slot < shard.size(); slot++) {
      long due = shard.due(slot);
      if (due != KeyState.NEVER_DUE && (timers.isEmpty() || timers.first() > due)) {
        throw new AssertionError("a state waits for a timer that is not set");
      }
    }
  }

  private void emit(RowData data) {
    int trace = spec.features.length + 2;
    boolean sampled = spec.trace >= 0 && !data.isNullAt(trace);
    String traceparent = sampled ? RowTrace.parse(data.getString(trace).toString()).parent() : null;
    GenericRowData row = copy(spec, data);
    String key = data.getString(data.getArity() - 1).toString();
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
