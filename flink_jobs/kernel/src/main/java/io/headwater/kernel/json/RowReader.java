package io.headwater.kernel.json;

import io.headwater.kernel.json.BadRecord.Kind;
import java.io.IOException;
import java.io.Serializable;
import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.exc.InputCoercionException;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

/**
 * Reads one JSON object into a row and checks each field on the way.
 *
 * <p>Nothing is converted: a number in quotes is a text. Fields that the row does not have are
 * passed over, so that a producer may be ahead of its readers.
 */
final class RowReader implements Serializable {

  /** What a field must be. */
  private enum Type {
    STRING("string"),
    INT64("int64"),
    FLOAT64("float64"),
    BOOL("bool"),
    TIMESTAMP("timestamp"),
    ROW("object");

    final String label;

    Type(String label) {
      this.label = label;
    }
  }

  /** 0001-01-01 to 9999-12-31, what SQL and Python can both say. */
  private static final long FIRST_TIME = -62_135_596_800_000L;

  private static final long LAST_TIME = 253_402_300_799_999L;
  private static final Expectation[] NONE = {};

  /** What Debezium puts in the place of a large value that did not change. */
  private static final String UNAVAILABLE = "__debezium_unavailable_value";

  private final String path;
  private final String unavailable;
  private final boolean zoned;
  private final String[] names;
  private final Type[] types;
  private final boolean[] required;
  private final Expectation[][] expected;
  private final RowReader[] inner;
  private final Map<String, Integer> places = new HashMap<>();

  /**
   * @param path of the object in the record: {@code $} for the record itself
   * @param required, timestamps, expectations dotted paths, without the {@code $.}
   */
  RowReader(
      String path,
      RowType row,
      Set<String> required,
      Set<String> timestamps,
      List<Expectation> expectations) {
    int count = row.getFieldCount();
    this.path = path;
    this.zoned = !path.equals("$");
    this.unavailable = path.equals("$.after") ? UNAVAILABLE : null;
    this.names = row.getFieldNames().toArray(new String[0]);
    this.types = new Type[count];
    this.required = new boolean[count];
    this.expected = new Expectation[count][];
    this.inner = new RowReader[count];
    for (int i = 0; i < count; i++) {
      String dotted = (path + "." + names[i]).substring(2);
      places.put(names[i], i);
      types[i] = timestamps.contains(dotted) ? Type.TIMESTAMP : type(names[i], row.getTypeAt(i));
      this.required[i] = required.contains(dotted);
      expected[i] =
          expectations.stream().filter(e -> e.path().equals(dotted)).toArray(Expectation[]::new);
      if (expected[i].length == 0) {
        expected[i] = NONE;
      }
      if (types[i] == Type.ROW) {
        RowType nested = (RowType) row.getTypeAt(i);
        inner[i] = new RowReader("$." + dotted, nested, required, timestamps, expectations);
      }
    }
  }

  private static Type type(String name, LogicalType type) {
    return switch (type.getTypeRoot()) {
      case VARCHAR -> Type.STRING;
      case BIGINT -> Type.INT64;
      case DOUBLE -> Type.FLOAT64;
      case BOOLEAN -> Type.BOOL;
      case ROW -> Type.ROW;
      default ->
          throw new ValidationException(
              "column '%s' is %s, but headwater-json reads STRING, BIGINT, DOUBLE, BOOLEAN and ROW"
                  .formatted(name, type.asSummaryString()));
    };
  }

  /** The place of a field, or -1. */
  int place(String name) {
    return places.getOrDefault(name, -1);
  }

  /** Registers what the expectations count. */
  void open(MetricGroup metrics) {
    for (int i = 0; i < names.length; i++) {
      for (Expectation check : expected[i]) {
        check.open(metrics);
      }
      if (inner[i] != null) {
        inner[i].open(metrics);
      }
    }
  }

  /** All fields as dotted paths, those of inner objects too. */
  Set<String> paths() {
    Set<String> found = new TreeSet<>();
    for (int i = 0; i < names.length; i++) {
      found.add(where(i).substring(2));
      if (inner[i] != null) {
        found.addAll(inner[i].paths());
      }
    }
    return found;
  }

  /**
   * Reads the object whose opening brace is the parser's token.
   *
   * @param more how many empty fields the row gets after its own
   */
  GenericRowData read(JsonParser parser, int more) throws IOException, BadRecord {
    GenericRowData row = new GenericRowData(names.length + more);
    long seen = 0; // the first 64 fields
    int next = 0;
    for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
      // Most producers write the fields in one order.
      int place = next < names.length && names[next].equals(name) ? next : place(name);
      JsonToken token = parser.nextToken();
      if (place < 0) {
        parser.skipChildren();
        continue;
      }
      next = place + 1;
      long bit = 1L << place;
      if (place < 64 ? (seen & bit) != 0 : row.getField(place) != null) {
        throw new BadRecord(Kind.MALFORMED, "a second field - at `" + where(place) + "`");
      }
      seen |= place < 64 ? bit : 0;
      if (token != JsonToken.VALUE_NULL) {
        row.setField(place, value(parser, token, place));
      }
    }
    if (parser.currentToken() != JsonToken.END_OBJECT) {
      throw new BadRecord(Kind.MALFORMED, "not a whole object - at `" + path + "`");
    }
    for (int i = 0; i < names.length; i++) {
      if (required[i] && row.isNullAt(i)) {
        throw new BadRecord(
            Kind.MISSING, "required `" + types[i].label + "` - at `" + where(i) + "`");
      }
      if (expected[i] != NONE && row.isNullAt(i)) {
        for (Expectation check : expected[i]) {
          check.checkNull(path, names[i]);
        }
      }
    }
    return row;
  }

  private Object value(JsonParser parser, JsonToken token, int place)
      throws IOException, BadRecord {
    Expectation[] checks = expected[place];
    switch (types[place]) {
      case STRING -> {
        if (token == JsonToken.VALUE_STRING) {
          String text = parser.getText();
          checkText(text, place);
          if (unavailable != null && unavailable.equals(text)) {
            throw new BadRecord(
                Kind.MISSING,
                "not in the change, the table needs REPLICA IDENTITY FULL - at `"
                    + where(place)
                    + "`");
          }
          for (Expectation check : checks) {
            check.check(text, path, names[place]);
          }
          return StringData.fromString(text);
        }
      }
      case INT64, TIMESTAMP -> {
        boolean text = token == JsonToken.VALUE_STRING && zoned && types[place] == Type.TIMESTAMP;
        if (token == JsonToken.VALUE_NUMBER_INT || text) {
          long number = text ? instant(parser.getText(), place) : whole(parser, place);
          if (types[place] == Type.TIMESTAMP && (number < FIRST_TIME || number > LAST_TIME)) {
            throw new BadRecord(
                Kind.RANGE, "a time outside 0001 to 9999 - at `" + where(place) + "`");
          }
          for (Expectation check : checks) {
            check.check((double) number, path, names[place]);
          }
          return number;
        }
      }
      case FLOAT64 -> {
        if (token == JsonToken.VALUE_NUMBER_FLOAT || token == JsonToken.VALUE_NUMBER_INT) {
          double number = parser.getDoubleValue();
          if (!Double.isFinite(number)) {
            throw new BadRecord(Kind.RANGE, "beyond a float64 - at `" + where(place) + "`");
          }
          for (Expectation check : checks) {
            check.check(number, path, names[place]);
          }
          return number;
        }
      }
      case BOOL -> {
        if (token == JsonToken.VALUE_TRUE || token == JsonToken.VALUE_FALSE) {
          return token == JsonToken.VALUE_TRUE;
        }
      }
      case ROW -> {
        if (token == JsonToken.START_OBJECT) {
          return inner[place].read(parser, 0);
        }
      }
    }
    throw new BadRecord(
        Kind.TYPE,
        "expected `%s`, got %s - at `%s`".formatted(types[place].label, told(token), where(place)));
  }

  /** Debezium sends a timestamp with time zone as text in UTC, whatever its settings. */
  private long instant(String text, int place) throws BadRecord {
    try {
      return Instant.parse(text).toEpochMilli();
    } catch (DateTimeParseException | ArithmeticException e) {
      throw new BadRecord(Kind.TYPE, "not an instant - at `" + where(place) + "`");
    }
  }

  private long whole(JsonParser parser, int place) throws IOException, BadRecord {
    try {
      return parser.getLongValue();
    } catch (InputCoercionException e) {
      throw new BadRecord(Kind.RANGE, "beyond an int64 - at `" + where(place) + "`");
    }
  }

  /** Half of a surrogate pair is no text: it cannot be written as UTF-8. */
  private void checkText(String text, int place) throws BadRecord {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE) {
        if (Character.isHighSurrogate(c)
            && i + 1 < text.length()
            && Character.isLowSurrogate(text.charAt(i + 1))) {
          i++;
        } else {
          throw new BadRecord(
              Kind.MALFORMED, "half of a surrogate pair - at `" + where(place) + "`");
        }
      }
    }
  }

  private static String told(JsonToken token) {
    return switch (token) {
      case START_OBJECT -> "an object";
      case START_ARRAY -> "an array";
      case VALUE_STRING -> "a string";
      case VALUE_NUMBER_INT -> "a whole number";
      case VALUE_NUMBER_FLOAT -> "a number with a fraction";
      default -> "a boolean";
    };
  }

  private String where(int place) {
    return path + "." + names[place];
  }
}
