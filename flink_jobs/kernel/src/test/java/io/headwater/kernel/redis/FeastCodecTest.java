package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.headwater.kernel.redis.Column.Kind;
import java.io.File;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.junit.jupiter.api.Test;

/** The bytes that Feast wrote, which the Python codec is held to as well. */
class FeastCodecTest {

  private static JsonNode vectors(String group) throws Exception {
    JsonNode vectors =
        new ObjectMapper().readTree(new File("../../tests/vectors/redis.json")).get(group);
    assertTrue(vectors.size() > 0, group);
    return vectors;
  }

  private static String hex(byte[] data) {
    return HexFormat.of().formatHex(data);
  }

  @Test
  void keys() throws Exception {
    for (JsonNode vector : vectors("keys")) {
      List<Column> columns = new ArrayList<>();
      GenericRowData row = new GenericRowData(vector.get("entity").size());
      for (var it = vector.get("entity").fields(); it.hasNext(); ) {
        var field = it.next();
        boolean text = field.getValue().isTextual();
        row.setField(
            columns.size(),
            text ? StringData.fromString(field.getValue().asText()) : field.getValue().asLong());
        columns.add(new Column(field.getKey(), columns.size(), text ? Kind.STRING : Kind.BIGINT));
      }
      RowEncoder encoder =
          new RowEncoder(
              Fixture.config(0, "v", vector.get("project").asText(), columns, List.of()));
      assertEquals(
          vector.get("hex").asText(), hex(RowEncoder.bytes(encoder.key(row))), vector.toString());
    }
  }

  @Test
  void fields() throws Exception {
    for (JsonNode vector : vectors("fields")) {
      byte[] field =
          FeastCodec.featureField(vector.get("view").asText(), vector.get("feature").asText());
      assertEquals(vector.get("hex").asText(), hex(field), vector.toString());
    }
  }

  @Test
  void values() throws Exception {
    for (JsonNode vector : vectors("values")) {
      JsonNode value = vector.get("value");
      Kind kind =
          switch (vector.get("type").asText()) {
            case "string" -> Kind.STRING;
            case "int64" -> Kind.BIGINT;
            case "float64" -> Kind.DOUBLE;
            case "bool" -> Kind.BOOLEAN;
            case "timestamp" -> Kind.TIMESTAMP;
            default -> throw new AssertionError(vector);
          };
      Object field =
          value.isNull()
              ? null
              : switch (kind) {
                case STRING -> StringData.fromString(value.asText());
                case BIGINT, INT -> value.asLong();
                case DOUBLE -> value.asDouble();
                case BOOLEAN -> value.asBoolean();
                case TIMESTAMP -> TimestampData.fromEpochMillis(value.asLong());
              };
      byte[] encoded = new Column("f", 0, kind).encode(GenericRowData.of(field));
      assertEquals(vector.get("hex").asText(), hex(encoded), vector.toString());
    }
  }

  @Test
  void anIntIsTheSameAsABigint() {
    assertEquals("20ac02", hex(new Column("f", 0, Kind.INT).encode(GenericRowData.of(300))));
  }

  @Test
  void eventTimes() throws Exception {
    for (JsonNode vector : vectors("event_times")) {
      byte[] encoded = FeastCodec.eventTime(vector.get("milliseconds").asLong());
      assertEquals(vector.get("hex").asText(), hex(encoded), vector.toString());
    }
  }

  /** Values of mmh3, one for each length of the tail. */
  @Test
  void murmur3() {
    assertEquals(0, FeastCodec.murmur3(new byte[0]));
    assertEquals(0x3c2569b2, FeastCodec.murmur3("a".getBytes(UTF_8)));
    assertEquals(0x9bbfd75f, FeastCodec.murmur3("ab".getBytes(UTF_8)));
    assertEquals(0xb3dd93fa, FeastCodec.murmur3("abc".getBytes(UTF_8)));
    assertEquals(0x43ed676a, FeastCodec.murmur3("abcd".getBytes(UTF_8)));
  }
}
