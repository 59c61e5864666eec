package io.headwater.kernel.joins;

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
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.logical.LogicalType;

/**
 * Timelines without a cluster, for {@code tests/test_joins.py}: each line of input is a run, each
 * line of output what came of it.
 *
 * <p>A run is {@code {"within": 0, "ties": false, "commands": [["event", key, time, number],
 * ["version", key, since, [bigint, double, string] or null], ["watermark", time], ["restart"]]}}.
 * The answer holds the {@code rows} (number of the event, the values in force or null), the
 * positions of the {@code late} commands, and how many {@code states} are left.
 */
final class Harness {

  private static final ObjectMapper JSON = new ObjectMapper();
  private static final LogicalType[] TYPES = {
    DataTypes.BIGINT().getLogicalType(),
    DataTypes.DOUBLE().getLogicalType(),
    DataTypes.STRING().getLogicalType()
  };

  private final RowDataSerializer rows = new RowDataSerializer(TYPES);
  private final RowDataSerializer numbers = new RowDataSerializer(TYPES[0]);
  private final long within;
  private final ByContent ties;
  private final Map<String, Timeline> states = new TreeMap<>();
  private final Map<String, TreeSet<Long>> timers = new TreeMap<>();
  private final ArrayNode emitted = JSON.createArrayNode();
  private final ArrayNode late = JSON.createArrayNode();
  private long watermark = Long.MIN_VALUE;

  private Harness(JsonNode run) {
    within = run.path("within").asLong() > 0 ? run.path("within").asLong() : Timeline.FOR_EVER;
    ties = run.path("ties").asBoolean() ? new ByContent(TYPES) : null;
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
      boolean tooLate = false;
      switch (command.get(0).asText()) {
        case "event" -> tooLate = event(command);
        case "version" -> tooLate = version(command);
        case "watermark" -> advance(command.get(1).asLong());
        case "restart" -> states.replaceAll((k, state) -> Timeline.decode(state.encode()));
        default -> throw new IllegalArgumentException(command.toString());
      }
      if (tooLate) {
        late.add(i);
      }
    }
    ObjectNode answer = JSON.createObjectNode().put("states", states.size());
    answer.set("rows", emitted);
    answer.set("late", late);
    return answer;
  }

  /** As Flink: what is not after the watermark never reaches the function. */
  private boolean event(JsonNode command) {
    String key = command.get(1).asText();
    long time = command.get(2).asLong();
    if (time <= watermark) {
      return true;
    }
    GenericRowData row = GenericRowData.of(command.get(3).asLong());
    state(key).addEvent(time, numbers.toBinaryRow(row).copy());
    timer(key);
    return false;
  }

  private boolean version(JsonNode command) {
    String key = command.get(1).asText();
    JsonNode values = command.get(3);
    BinaryRowData row = null;
    if (!values.isNull()) {
      JsonNode number = values.get(0);
      JsonNode fraction = values.get(1);
      JsonNode text = values.get(2);
      row =
          rows.toBinaryRow(
                  GenericRowData.of(
                      number.isNull() ? null : number.asLong(),
                      fraction.isNull() ? null : fraction.asDouble(),
                      text.isNull() ? null : StringData.fromString(text.asText())))
              .copy();
    }
    long since = command.get(2).asLong();
    long until = within == Timeline.FOR_EVER ? within : since + within;
    boolean isLate = state(key).addVersion(since, until, row, ties, watermark);
    timer(key);
    return isLate;
  }

  private Timeline state(String key) {
    Timeline state = states.computeIfAbsent(key, k -> new Timeline(7));
    state.check(7, 7);
    return state;
  }

  /** As the function: drops an empty state, or sets the timer that Flink would have. */
  private void timer(String key) {
    Timeline state = states.get(key);
    if (state.isEmpty()) {
      states.remove(key);
      return;
    }
    long due = state.due();
    if (due < state.timer) {
      state.timer = due;
      if (due <= watermark) {
        throw new AssertionError("Flink ignores timers that the watermark passed");
      }
      timers.computeIfAbsent(key, k -> new TreeSet<>()).add(due);
    }
  }

  private void advance(long to) {
    watermark = Math.max(watermark, to);
    for (String key : List.copyOf(timers.keySet())) {
      TreeSet<Long> due = timers.get(key);
      while (!due.isEmpty() && due.first() <= watermark) {
        due.pollFirst();
        Timeline state = states.get(key);
        if (state != null) {
          state.advance(watermark, this::emit);
          state.timer = Timeline.FOR_EVER;
          timer(key);
        }
      }
    }
  }

  private void emit(BinaryRowData event, BinaryRowData row) {
    ArrayNode pair = emitted.addArray().add(event.getLong(0));
    if (row == null) {
      pair.addNull();
      return;
    }
    ArrayNode values = pair.addArray();
    values.addPOJO(row.isNullAt(0) ? null : row.getLong(0));
    values.addPOJO(row.isNullAt(1) ? null : row.getDouble(1));
    values.addPOJO(row.isNullAt(2) ? null : row.getString(2).toString());
  }
}
