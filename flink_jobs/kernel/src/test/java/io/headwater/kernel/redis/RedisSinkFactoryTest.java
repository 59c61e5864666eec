package io.headwater.kernel.redis;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.ValidationException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What a wrong table is told. */
class RedisSinkFactoryTest {

  private static final String COLUMNS =
      "origin STRING, dest BIGINT, event_time BIGINT, at_time TIMESTAMP_LTZ(3), gone BOOLEAN, f DOUBLE";

  private final TableEnvironment env =
      TableEnvironment.create(EnvironmentSettings.inStreamingMode());

  private static Map<String, String> options() {
    Map<String, String> options = new LinkedHashMap<>();
    options.put("connector", "feast-redis");
    options.put("url", "redis://127.0.0.1:6379");
    options.put("project", "flights");
    options.put("view", "origin_delays");
    options.put("entity-keys", "origin");
    options.put("event-time", "event_time");
    return options;
  }

  private String plan(String columns, Map<String, String> options) {
    String with =
        options.entrySet().stream()
            .map(option -> "'%s' = '%s'".formatted(option.getKey(), option.getValue()))
            .collect(Collectors.joining(", "));
    env.executeSql("CREATE TABLE sink (%s) WITH (%s)".formatted(columns, with));
    env.executeSql("CREATE TABLE source (%s) WITH ('connector' = 'datagen')".formatted(columns));
    return env.explainSql("INSERT INTO sink SELECT * FROM source");
  }

  private String error(String columns, Map<String, String> options) {
    Throwable error = assertThrows(ValidationException.class, () -> plan(columns, options));
    while (error.getCause() != null) {
      error = error.getCause();
    }
    assertEquals(ValidationException.class, error.getClass());
    return error.getMessage();
  }

  @Test
  void allOptions() {
    Map<String, String> options = options();
    options.put("entity-keys", "origin; dest");
    options.put("event-time", "at_time");
    options.put("deleted", "gone");
    options.put("trace", "note");
    options.put("epoch", "3");
    options.put("username", "writer");
    options.put("password-file", "/run/secrets/redis");
    options.put("cluster", "true");
    options.put("batch-size", "500");
    options.put("linger-ms", "0");
    options.put("timeout-ms", "500");
    options.put("retries", "0");
    options.put("sink.parallelism", "1");
    String plan = plan(COLUMNS + ", note STRING", options);
    assertFalse(plan.contains("Exchange"), plan);
  }

  @Test
  void replicasOfACluster() {
    Map<String, String> options = options();
    options.put("replicas", "1");
    plan(COLUMNS, options);
    env.executeSql("DROP TABLE sink");
    env.executeSql("DROP TABLE source");
    options.put("cluster", "true");
    assertEquals(
        "'replicas' = '1': a cluster's nodes are not waited for, leave it out with 'cluster'",
        error(COLUMNS, options));
  }

  @ParameterizedTest
  @ValueSource(strings = {"url", "project", "view", "entity-keys", "event-time"})
  void aMissingOption(String option) {
    Map<String, String> options = options();
    options.remove(option);
    assertEquals(
        "One or more required options are missing.\n\nMissing required options are:\n\n" + option,
        error(COLUMNS, options));
  }

  @Test
  void anUnknownOption() {
    Map<String, String> options = options();
    options.put("batchsize", "1");
    String error = error(COLUMNS, options);
    assertTrue(error.contains("batchsize") && error.contains("batch-size"), error);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "entity-keys | origni"
            + " | no column 'origni'; choose of the columns of type STRING or BIGINT:"
            + " origin, dest, event_time",
        "entity-keys | origin;f"
            + " | column 'f' is DOUBLE; choose of the columns of type STRING or BIGINT:"
            + " origin, dest, event_time",
        "entity-keys | origin,origin | column 'origin' is named twice",
        "event-time | origin"
            + " | column 'origin' is STRING; choose of the columns of type BIGINT, TIMESTAMP(3) or"
            + " TIMESTAMP_LTZ(3): dest, event_time, at_time",
        "trace | gone"
            + " | column 'gone' is BOOLEAN; choose of the columns of type STRING: origin",
        "deleted | is_deleted"
            + " | no column 'is_deleted'; choose of the columns of type BOOLEAN: gone",
      })
  void aWrongColumn(String option, String value, String expected) {
    Map<String, String> options = options();
    options.put(option, value);
    assertEquals("option '%s': %s".formatted(option, expected), error(COLUMNS, options));
  }

  @ParameterizedTest
  @CsvSource({
    "batch-size, 0, from 1 to 1000000",
    "epoch, -1, from 0 to 9007199254740992",
    "retries, -1, from 0",
    "timeout-ms, 0, from 1",
  })
  void aWrongNumber(String option, String value, String expected) {
    Map<String, String> options = options();
    options.put(option, value);
    String error = error(COLUMNS, options);
    assertTrue(
        error.startsWith("option '%s' is %s, but goes %s".formatted(option, value, expected)),
        error);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "http://h:1",
        "//h:1",
        "redis://:hunter2@",
        "127.0.0.1:6379",
        "redis://u:hunter2 @h"
      })
  void aWrongUrl(String url) {
    Map<String, String> options = options();
    options.put("url", url);
    String error = error(COLUMNS, options);
    assertTrue(error.startsWith("option 'url': expected redis://host:port"), error);
    assertFalse(error.contains("hunter2"), error);
  }

  @ParameterizedTest
  @ValueSource(strings = {"DECIMAL(9, 2)", "FLOAT", "TIMESTAMP(6)", "ARRAY<BIGINT>", "BYTES"})
  void aTypeThatRedisHasNot(String type) {
    String error = error(COLUMNS + ", g " + type, options());
    assertEquals(
        ("column 'g' is %s, but Redis takes STRING, BIGINT, INT, DOUBLE, BOOLEAN, TIMESTAMP(3) or"
                + " TIMESTAMP_LTZ(3)")
            .formatted(type),
        error);
  }

  @Test
  void aTableWithoutFeatures() {
    assertEquals(
        "the table has no feature: each column is named by an option, of origin, event_time",
        error("origin STRING, event_time BIGINT", options()));
  }
}
