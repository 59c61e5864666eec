package io.headwater.kernel.json;

import io.headwater.kernel.json.BadRecord.Kind;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.util.Collector;

/**
 * One record's bytes to one row: of values, or of a reason and the bytes.
 *
 * <p>Counters: {@code deadLetters}, in a group {@code reason} for each kind of reason, and those of
 * the expectations.
 */
final class CheckedJson implements DeserializationSchema<RowData> {

  /** What a format can tell beside the values, in the order the table asked for it. */
  enum Metadata {
    REASON,
    PAYLOAD
  }

  /**
   * The most bytes of a record, which is what a topic takes where nobody raised it. Kafka counts
   * them compressed, and the topics of dead letters and of late rows take so much and no more: a
   * larger one would stop the job for good.
   */
  static final int LARGEST = 1 << 20;

  private static final int FRAME = 5;

  /** How a heartbeat begins; no column can have such a name. A number and a brace follow. */
  private static final byte[] HEARTBEAT = "{\"$heartbeat\":".getBytes(StandardCharsets.US_ASCII);

  private static final StringData HEARTBEAT_REASON = StringData.fromString("heartbeat");
  private static final int LONGEST_TIME = 15;
  private static final long NONE = -1;

  private final RowReader reader;
  private final int columns;
  private final Rules rules;
  private final List<Metadata> metadata;
  private final TypeInformation<RowData> type;
  private final int eventTime;
  private final int op;
  private final int before;
  private final int after;
  private transient JsonFactory json;
  private transient Map<Kind, Counter> dead;

  CheckedJson(
      RowReader reader,
      int columns,
      Rules rules,
      List<Metadata> metadata,
      TypeInformation<RowData> type) {
    this.reader = reader;
    this.columns = columns;
    this.rules = rules;
    this.metadata = List.copyOf(metadata);
    this.type = type;
    this.eventTime = rules.eventTime() == null ? -1 : reader.place(rules.eventTime());
    this.op = rules.debezium() ? reader.place("op") : -1;
    this.before = reader.place("before");
    this.after = reader.place("after");
  }

  @Override
  public void open(InitializationContext context) {
    open(rules.counted() ? context.getMetricGroup() : new UnregisteredMetricsGroup());
  }

  void open(MetricGroup metrics) {
    // Names are not interned: a producer could fill the JVM's table with ever new ones.
    json =
        JsonFactory.builder()
            .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
            .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW)
            .build();
    reader.open(metrics);
    dead = new EnumMap<>(Kind.class);
    for (Kind kind : Kind.values()) {
      dead.put(kind, metrics.addGroup("reason", kind.label).counter("deadLetters"));
    }
  }

  @Override
  public void deserialize(byte[] message, Collector<RowData> out) throws IOException {
    out.collect(deserialize(message));
  }

  @Override
  public RowData deserialize(byte[] message) throws IOException {
    try {
      long heartbeat = eventTime < 0 ? NONE : heartbeat(message);
      return heartbeat == NONE ? read(message) : beat(heartbeat);
    } catch (BadRecord e) {
      dead.get(e.kind).inc();
      return bad(e.kind == Kind.SIZE ? Arrays.copyOf(message, LARGEST) : message, e);
    }
  }

  private GenericRowData read(byte[] message) throws BadRecord {
    if (message == null || message.length == 0) {
      throw new BadRecord(Kind.EMPTY, "no payload");
    }
    if (message.length > LARGEST) {
      throw new BadRecord(
          Kind.SIZE, "expected at most " + LARGEST + " bytes, got " + message.length + " - at `$`");
    }
    int start = start(message);
    checkEncoding(message, start);
    GenericRowData row;
    try (JsonParser parser = json.createParser(message, start, message.length - start)) {
      JsonToken first = parser.nextToken();
      if (first != JsonToken.START_OBJECT) {
        throw new BadRecord(Kind.MALFORMED, "not an object - at `$`");
      }
      row = reader.read(parser, metadata.size());
      if (parser.nextToken() != null) {
        throw new BadRecord(Kind.MALFORMED, "more than one object - at `$`");
      }
    } catch (IOException e) {
      throw new BadRecord(Kind.MALFORMED, "not JSON - " + place(e));
    }
    if (eventTime >= 0) {
      checkEventTime(row.getLong(eventTime));
    }
    if (op >= 0) {
      checkEnvelope(row);
    }
    return row;
  }

  /** A producer with a schema registry puts a zero and the four bytes of a schema's id before. */
  private static int start(byte[] message) {
    return message.length > FRAME && message[0] == 0 && message[FRAME] == '{' ? FRAME : 0;
  }

  /** Jackson would guess UTF-16 and UTF-32, and let ill-formed UTF-8 pass. */
  private static void checkEncoding(byte[] message, int start) throws BadRecord {
    boolean ascii = true;
    for (int i = start; i < message.length; i++) {
      ascii &= message[i] >= 0;
    }
    if (!ascii) {
      try {
        StandardCharsets.UTF_8
            .newDecoder()
            .decode(ByteBuffer.wrap(message, start, message.length - start));
      } catch (CharacterCodingException e) {
        throw new BadRecord(Kind.MALFORMED, "not UTF-8");
      }
    }
    if (message[start] == 0 || message.length > start + 1 && message[start + 1] == 0) {
      throw new BadRecord(Kind.MALFORMED, "not UTF-8");
    }
  }

  private void checkEventTime(long time) throws BadRecord {
    String where = " - at `$." + rules.eventTime() + "`";
    if (time < 0) {
      throw new BadRecord(Kind.RANGE, "before 1970" + where);
    }
    if (time > System.currentTimeMillis() + rules.aheadMillis()) {
      throw new BadRecord(
          Kind.FUTURE, "more than " + rules.aheadMillis() / 1000 + " s ahead of the clock" + where);
    }
  }

  private void checkEnvelope(GenericRowData row) throws BadRecord {
    switch (row.getString(op).toString()) {
      case "c", "r", "u" -> present(row, after, "after");
      case "d" -> present(row, before, "before");
      default -> throw new BadRecord(Kind.TYPE, "not a change of a row - at `$.op`");
    }
  }

  private static void present(GenericRowData row, int place, String name) throws BadRecord {
    if (row.isNullAt(place)) {
      throw new BadRecord(Kind.MISSING, "required `object` - at `$." + name + "`");
    }
  }

  /** Line and column of an error, without the text around it, which may be personal. */
  private static String place(IOException error) {
    if (error
            instanceof
            org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException
                known
        && known.getLocation() != null) {
      return "at byte " + known.getLocation().getByteOffset();
    }
    return "at an unknown byte";
  }

  /** The time of a heartbeat in milliseconds since 1970, or {@link #NONE} for any other record. */
  private static long heartbeat(byte[] message) {
    if (message == null
        || message.length <= HEARTBEAT.length + 1
        || message.length > HEARTBEAT.length + LONGEST_TIME + 1
        || message[message.length - 1] != '}'
        || !Arrays.equals(message, 0, HEARTBEAT.length, HEARTBEAT, 0, HEARTBEAT.length)) {
      return NONE;
    }
    long time = 0;
    for (int i = HEARTBEAT.length; i < message.length - 1; i++) {
      if (message[i] < '0' || message[i] > '9') {
        return NONE;
      }
      time = time * 10 + message[i] - '0';
    }
    return time;
  }

  /**
   * A row with a time alone: it moves the watermark on, and its reason keeps it out of all else.
   */
  private RowData beat(long time) throws BadRecord {
    checkEventTime(time);
    GenericRowData row = new GenericRowData(columns + metadata.size());
    row.setField(eventTime, time);
    int reason = metadata.indexOf(Metadata.REASON);
    if (reason >= 0) {
      row.setField(columns + reason, HEARTBEAT_REASON);
    }
    return row;
  }

  private RowData bad(byte[] message, BadRecord error) throws IOException {
    if (!metadata.contains(Metadata.REASON)) {
      throw new IOException("a bad record, and nobody to take it: " + error.reason());
    }
    GenericRowData row = new GenericRowData(columns + metadata.size());
    for (int i = 0; i < metadata.size(); i++) {
      row.setField(
          columns + i,
          metadata.get(i) == Metadata.REASON ? StringData.fromString(error.reason()) : message);
    }
    return row;
  }

  @Override
  public boolean isEndOfStream(RowData row) {
    return false;
  }

  @Override
  public TypeInformation<RowData> getProducedType() {
    return type;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof CheckedJson that
        && columns == that.columns
        && rules.equals(that.rules)
        && metadata.equals(that.metadata)
        && type.equals(that.type);
  }

  @Override
  public int hashCode() {
    return Objects.hash(columns, rules, metadata, type);
  }
}
