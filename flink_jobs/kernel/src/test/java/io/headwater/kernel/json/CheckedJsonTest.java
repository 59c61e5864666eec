package io.headwater.kernel.json;

import static java.nio.charset.StandardCharsets.UTF_16LE;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.json.CheckedJson.Metadata;
import java.io.IOException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.SimpleCounter;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.logical.RowType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CheckedJsonTest {

  private static final RowType EVENT =
      (RowType)
          DataTypes.ROW(
                  DataTypes.FIELD("event_time", DataTypes.BIGINT()),
                  DataTypes.FIELD("name", DataTypes.STRING()),
                  DataTypes.FIELD("count", DataTypes.BIGINT()),
                  DataTypes.FIELD("price", DataTypes.DOUBLE()),
                  DataTypes.FIELD("paid", DataTypes.BOOLEAN()))
              .getLogicalType();
  private static final Rules RULES =
      new Rules(
          Set.of("event_time", "name"),
          Set.of("event_time"),
          "event_time",
          86_400_000,
          false,
          Expectation.parse(
              """
              [{"name": "sane_price", "column": "price", "min": 0, "max": 100, "reject": true},
               {"name": "known_name", "column": "name", "in": ["a", "b", "é"], "reject": true},
               {"name": "low_count", "column": "count", "max": 9},
               {"name": "price_there", "column": "price", "present": true}]"""),
          true);

  private static CheckedJson format(RowType row, Rules rules, Metadata... metadata) {
    CheckedJson format =
        new CheckedJson(
            new RowReader("$", row, rules.required(), rules.timestamps(), rules.expectations()),
            row.getFieldCount(),
            rules,
            List.of(metadata),
            TypeInformation.of(RowData.class));
    format.open(new UnregisteredMetricsGroup());
    return format;
  }

  private static RowData read(byte[] message) throws IOException {
    return format(EVENT, RULES, Metadata.REASON, Metadata.PAYLOAD).deserialize(message);
  }

  @Test
  void aGoodEventIsItsValues() throws IOException {
    RowData row =
        read(
            """
            {"more": {"x": [1, {"name": 2}]}, "name": "é", "event_time": 5, "price": 3, "paid": true,
             "count": null} """
                .getBytes(UTF_8));
    assertEquals(5, row.getLong(0));
    assertEquals("é", row.getString(1).toString());
    assertTrue(row.isNullAt(2));
    assertEquals(3.0, row.getDouble(3));
    assertTrue(row.getBoolean(4));
    assertTrue(row.isNullAt(5) && row.isNullAt(6), "no reason, no payload");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '~',
      value = {
        "[] | malformed: not an object - at `$`",
        "{\"event_time\": 5, \"name\": \"a\"} x | malformed: not JSON - at byte 32",
        "{\"event_time\": 5, \"name\": \"a\"}{} | malformed: more than one object - at `$`",
        "{\"event_time\": 5, \"name\": \"a\" | malformed: not JSON - at byte 29",
        "{\"event_time\": 5, \"name\": \"a\", \"name\": \"b\"} | malformed: a second field - at `$.name`",
        "{\"event_time\": 5} | missing: required `string` - at `$.name`",
        "{\"event_time\": null, \"name\": \"a\"} | missing: required `timestamp` - at `$.event_time`",
        "{\"event_time\": \"5\"} | type: expected `timestamp`, got a string - at `$.event_time`",
        "{\"count\": 1.0} | type: expected `int64`, got a number with a fraction - at `$.count`",
        "{\"paid\": 1} | type: expected `bool`, got a whole number - at `$.paid`",
        "{\"name\": {}} | type: expected `string`, got an object - at `$.name`",
        "{\"count\": 9223372036854775808} | range: beyond an int64 - at `$.count`",
        "{\"price\": 1e999} | range: beyond a float64 - at `$.price`",
        "{\"price\": 101} | expectation: sane_price - at `$.price`",
        "{\"name\": \"c\"} | expectation: known_name - at `$.name`",
        "{\"name\": \"\\ud800\"} | malformed: half of a surrogate pair - at `$.name`",
        "{\"event_time\": -1, \"name\": \"a\"} | range: before 1970 - at `$.event_time`",
        "{\"event_time\": 253402300800000} | range: a time outside 0001 to 9999 - at `$.event_time`",
        "{\"event_time\": 253402300799999, \"name\": \"a\"} |"
            + " future: more than 86400 s ahead of the clock - at `$.event_time`",
      })
  void aBadEventIsAReasonAndItsBytes(String text, String reason) throws IOException {
    RowData row = read(text.getBytes(UTF_8));
    for (int i = 0; i < 5; i++) {
      assertTrue(row.isNullAt(i));
    }
    assertEquals(reason, row.getString(5).toString());
    assertArrayEquals(text.getBytes(UTF_8), row.getBinary(6));
  }

  @Test
  void ofALargeRecordTheLetterHasTheFirstBytes() throws IOException {
    byte[] event = "{\"event_time\": 5, \"name\": \"a\"}".getBytes(UTF_8);
    byte[] largest = Arrays.copyOf(event, 1 << 20);
    Arrays.fill(largest, event.length, largest.length, (byte) ' ');
    assertEquals(5, read(largest).getLong(0));
    byte[] larger = Arrays.copyOf(largest, largest.length + 1);
    larger[largest.length] = ' ';
    RowData row = read(larger);
    assertEquals(
        "size: expected at most 1048576 bytes, got 1048577 - at `$`", row.getString(5).toString());
    assertArrayEquals(largest, row.getBinary(6));
  }

  @Test
  void otherEncodingsAreMalformed() throws IOException {
    String good = "{\"event_time\": 5, \"name\": \"a\"}";
    byte[] latin = {'{', '"', (byte) 0xe9, '"', ':', '1', '}'};
    byte[] overlong = {'{', '"', (byte) 0xc0, (byte) 0x80, '"', ':', '1', '}'};
    for (byte[] message : List.of(good.getBytes(UTF_16LE), latin, overlong)) {
      assertEquals("malformed: not UTF-8", read(message).getString(5).toString());
    }
    assertEquals("empty: no payload", read(new byte[0]).getString(5).toString());
    RowData none = read(null);
    assertEquals("empty: no payload", none.getString(5).toString());
    assertTrue(none.isNullAt(6));
  }

  @Test
  void aSchemaIdBeforeTheEventIsPassedOver() throws IOException {
    byte[] good = "\0\0\0\1\7{\"event_time\": 5, \"name\": \"a\"}".getBytes(UTF_8);
    assertEquals(5, read(good).getLong(0));
    byte[] bad = "\0\0\0\1\7{\"event_time\": 5}".getBytes(UTF_8);
    assertArrayEquals(bad, read(bad).getBinary(6));
  }

  @Test
  void aHeartbeatIsATimeAlone() throws IOException {
    RowData row = read("{\"$heartbeat\":1700000000000}".getBytes(UTF_8));
    assertEquals(1_700_000_000_000L, row.getLong(0));
    assertTrue(row.isNullAt(1) && row.isNullAt(6));
    assertEquals("heartbeat", row.getString(5).toString());
    for (String text : List.of("", "-1", "1.5", "\"1\"", "9999999999999999", "1,\"a\":1")) {
      row = read(("{\"$heartbeat\":" + text + "}").getBytes(UTF_8));
      assertTrue(row.isNullAt(0), text);
    }
    row = read("{\"$heartbeat\":253402300799999}".getBytes(UTF_8));
    assertTrue(row.getString(5).toString().startsWith("future"));
  }

  @Test
  void aBrokenExpectationIsCountedWhereItDoesNotReject() throws IOException {
    Map<String, Counter> counters = new HashMap<>();
    CheckedJson format = format(EVENT, RULES, Metadata.REASON);
    format.open(
        new UnregisteredMetricsGroup() {
          private String key = "";

          @Override
          public MetricGroup addGroup(String key, String value) {
            this.key = value;
            return this;
          }

          @Override
          public Counter counter(String name) {
            return counters.computeIfAbsent(name + " " + key, x -> new SimpleCounter());
          }
        });
    String event = "{\"event_time\": 5, \"name\": \"a\", \"count\": %s, \"price\": %s}";
    for (String[] values : new String[][] {{"9", "1"}, {"10", "1"}, {"1", "null"}, {"1", "-1"}}) {
      RowData row = format.deserialize(event.formatted((Object[]) values).getBytes(UTF_8));
      assertEquals(values[1].equals("-1"), !row.isNullAt(5));
    }
    assertEquals(1, counters.get("brokenExpectations low_count").getCount());
    assertEquals(1, counters.get("brokenExpectations price_there").getCount());
    assertEquals(1, counters.get("brokenExpectations sane_price").getCount());
    assertEquals(0, counters.get("brokenExpectations known_name").getCount());
    assertEquals(1, counters.get("deadLetters expectation").getCount());
  }

  @Test
  void noErrorButAReason() throws IOException {
    byte[] good =
        "{\"event_time\": 5, \"name\": \"a\", \"deep\": [[[[{}]]]], \"count\": 1}".getBytes(UTF_8);
    CheckedJson format = format(EVENT, RULES, Metadata.REASON, Metadata.PAYLOAD);
    for (int length = 0; length < good.length; length++) {
      assertTrue(!format.deserialize(java.util.Arrays.copyOf(good, length)).isNullAt(5));
    }
    for (int place = 0; place < good.length; place++) {
      for (int value = 0; value < 256; value++) {
        byte[] changed = good.clone();
        changed[place] = (byte) value;
        RowData row = format.deserialize(changed);
        assertTrue(row.isNullAt(5) ? row.isNullAt(6) : row.isNullAt(0));
      }
    }
    String deep = "[".repeat(400_000);
    assertTrue(
        format
            .deserialize(("{\"x\": " + deep).getBytes(UTF_8))
            .getString(5)
            .toString()
            .startsWith("malformed"));
  }

  @Test
  void withoutAReasonColumnABadEventFailsTheJob() {
    CheckedJson format = format(EVENT, RULES);
    assertThrows(IOException.class, () -> format.deserialize(new byte[] {'x'}));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '~',
      value = {
        "{\"op\": \"c\", \"before\": null, \"after\": {\"id\": 1, \"name\": \"a\"}} | ",
        "{\"op\": \"d\", \"before\": {\"id\": 1, \"name\": null}, \"after\": null} | ",
        "{\"op\": \"d\", \"after\": null} | missing: required `object` - at `$.before`",
        "{\"op\": \"u\", \"before\": {\"id\": 1}} | missing: required `object` - at `$.after`",
        "{\"op\": \"u\", \"after\": {\"id\": 1}} | missing: required `string` - at `$.after.name`",
        "{\"op\": \"c\", \"after\": {\"id\": 1, \"name\": \"a\", \"at\": 5}} | ",
        "{\"op\": \"c\", \"after\": {\"id\": 1, \"name\": \"a\","
            + " \"at\": \"2013-01-01T00:00:00.123456Z\"}} | ",
        "{\"op\": \"c\", \"after\": {\"id\": 1, \"name\": \"a\", \"at\": \"infinity\"}} |"
            + " type: not an instant - at `$.after.at`",
        "{\"op\": \"t\"} | type: not a change of a row - at `$.op`",
        "{\"schema\": {}, \"payload\": {\"op\": \"c\"}} | missing: required `string` - at `$.op`",
        "{\"op\": \"u\", \"after\": {\"id\": 1, \"name\": \"__debezium_unavailable_value\"}} |"
            + " missing: not in the change, the table needs REPLICA IDENTITY FULL - at `$.after.name`",
      })
  void aChangeOfARowHasItsImages(String text, String reason) throws IOException {
    RowType inner =
        RowType.of(
            new org.apache.flink.table.types.logical.LogicalType[] {
              DataTypes.BIGINT().getLogicalType(),
              DataTypes.STRING().getLogicalType(),
              DataTypes.BIGINT().getLogicalType()
            },
            new String[] {"id", "name", "at"});
    RowType envelope =
        RowType.of(
            new org.apache.flink.table.types.logical.LogicalType[] {
              inner, inner, DataTypes.STRING().getLogicalType()
            },
            new String[] {"before", "after", "op"});
    Rules rules =
        new Rules(
            Set.of("op", "before.id", "after.id", "after.name"),
            Set.of("after.at"),
            null,
            0,
            true,
            List.of(),
            true);
    RowData row = format(envelope, rules, Metadata.REASON).deserialize(text.getBytes(UTF_8));
    if (reason == null) {
      assertNull(row.isNullAt(3) ? null : row.getString(3).toString());
    } else {
      assertEquals(reason, row.getString(3).toString());
    }
  }
}
