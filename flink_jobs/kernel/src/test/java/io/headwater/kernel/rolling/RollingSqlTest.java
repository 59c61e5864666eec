package io.headwater.kernel.rolling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.metrics.Counter;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The SQL of the README through Flink's planner and a local cluster. */
class RollingSqlTest {

  private static final String SPEC =
      """
      {"time": "event_time", "features": [
        {"name": "departures_1h", "op": "count", "column": null, "window_ms": 3600000, "tile_ms": 60000},
        {"name": "dep_delay_mean_1h", "op": "mean", "column": "dep_delay", "window_ms": 3600000, "tile_ms": 60000},
        {"name": "dep_delay_max", "op": "max", "column": "dep_delay", "window_ms": null, "tile_ms": null},
        {"name": "last_carrier_1h", "op": "last", "column": "carrier", "window_ms": 3600000, "tile_ms": 60000}]}""";

  private static final String QUERY =
      """
      SELECT * FROM rolling(
        input => TABLE departures PARTITION BY origin,
        spec => '%s',
        uid => 'origin_delays')""";

  /** The same, with many keys a partition. */
  private static final String SHARDED =
      """
      SELECT `result`.`origin` AS `origin`, `result` FROM rolling(
        input => TABLE sharded PARTITION BY `_shard`,
        spec => '%s',
        uid => 'origin_delays')""";

  private static final String SHARDS =
      "CREATE VIEW sharded AS SELECT *, shard(origin) AS `_shard` FROM departures";

  private static final String SHARDED_SPEC =
      SPEC.replace("{\"time\"", "{\"keys\": [\"origin\"], \"time\"");

  static TableEnvironment environment(String backend) {
    return environment(backend, new Configuration());
  }

  private static TableEnvironment environment(String backend, Configuration config) {
    config.setString("state.backend.type", backend);
    if (!config.containsKey("parallelism.default")) {
      config.setString("parallelism.default", "2");
    }
    config.setString("table.local-time-zone", "UTC");
    TableEnvironment env =
        TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(config).build());
    env.executeSql(
        "CREATE TEMPORARY SYSTEM FUNCTION rolling AS 'io.headwater.kernel.rolling.Rolling'");
    env.executeSql(
        "CREATE TEMPORARY SYSTEM FUNCTION shard AS 'io.headwater.kernel.rolling.ShardOf'");
    return env;
  }

  private static TableEnvironment departures(String backend) {
    TableEnvironment env = environment(backend);
    // One row each ten minutes of event time, over two airports.
    env.executeSql(
        """
        CREATE TABLE departures (
          n BIGINT,
          event_time AS TO_TIMESTAMP_LTZ(n * 600000, 3),
          origin AS IF(MOD(n, 3) = 0, 'EWR', 'JFK'),
          carrier AS IF(n = 4, CAST(NULL AS STRING), 'C' || CAST(n AS STRING)),
          dep_delay AS IF(n = 2, CAST(NULL AS DOUBLE), CAST(n AS DOUBLE)),
          WATERMARK FOR event_time AS event_time - INTERVAL '5' MINUTE
        ) WITH ('connector' = 'datagen', 'number-of-rows' = '5', 'fields.n.kind' = 'sequence',
          'fields.n.start' = '1', 'fields.n.end' = '5')""");
    return env;
  }

  @ParameterizedTest
  @CsvSource({"hashmap,false", "rocksdb,false", "hashmap,true", "rocksdb,true"})
  void valuesRiseAndDecayDownToTheEmptyOne(String backend, boolean sharded) throws Exception {
    TableEnvironment env = departures(backend);
    env.executeSql(SHARDS);
    String query = sharded ? SHARDED.formatted(SHARDED_SPEC) : QUERY.formatted(SPEC);
    assertEquals(
        List.of(
            "EWR 030 1 3.0 3.0 C3",
            "EWR 090 0 null 3.0 null",
            "JFK 010 1 1.0 1.0 C1",
            "JFK 020 2 1.0 1.0 C2",
            "JFK 040 3 2.5 4.0 C2",
            "JFK 050 4 3.3333333333333335 5.0 C5",
            "JFK 070 3 4.5 5.0 C5",
            "JFK 080 2 4.5 5.0 C5",
            "JFK 100 1 5.0 5.0 C5",
            "JFK 110 0 null 5.0 null"),
        rows(env, query));
  }

  /** All that a query gives, in alphabetical order. */
  private static List<String> rows(TableEnvironment env, String query) throws Exception {
    List<String> rows = new ArrayList<>();
    try (CloseableIterator<Row> it = env.executeSql(query).collect()) {
      it.forEachRemaining(row -> rows.add(text(row)));
    }
    rows.sort(null);
    return rows;
  }

  private static String text(Row row) {
    Row result = row.getFieldAs("result");
    return "%s %03d %s %s %s %s"
        .formatted(
            row.getField("origin"),
            result.<Instant>getFieldAs("event_time").getEpochSecond() / 60,
            result.getField("departures_1h"),
            result.getField("dep_delay_mean_1h"),
            result.getField("dep_delay_max"),
            result.getField("last_carrier_1h"));
  }

  @Test
  void lateRowsComeOutAndAreCounted() throws Exception {
    Configuration config = new Configuration();
    config.setString("parallelism.default", "1");
    config.setString("metrics.reporters", "counters");
    config.setString("metrics.reporter.counters.factory.class", CounterReporter.class.getName());
    TableEnvironment env = environment("hashmap", config);
    env.executeSql(
        """
        CREATE TABLE departures (
          n BIGINT,
          event_time AS TO_TIMESTAMP_LTZ(IF(n = 4, 1, n) * 600000, 3),
          origin AS 'EWR',
          carrier AS 'C1',
          dep_delay AS 1e0,
          WATERMARK FOR event_time AS event_time - INTERVAL '5' MINUTE
        ) WITH ('connector' = 'datagen', 'number-of-rows' = '5', 'fields.n.kind' = 'sequence',
          'fields.n.start' = '1', 'fields.n.end' = '5')""");
    CounterReporter.LATE_ROWS.clear();
    List<Long> counts = new ArrayList<>();
    List<String> late = new ArrayList<>();
    try (CloseableIterator<Row> it = env.executeSql(QUERY.formatted(SPEC)).collect()) {
      while (it.hasNext()) {
        Row row = it.next();
        Row result = row.getFieldAs("result");
        if (result.getField("late_row") == null) {
          counts.add(result.getFieldAs("departures_1h"));
        } else {
          late.add(row.toString());
        }
      }
    }
    assertEquals(List.of(1L, 2L, 3L, 4L, 3L, 2L, 1L, 0L), counts);
    assertEquals(
        List.of(
            "+I[EWR, +I[null, null, null, null, 1970-01-01T00:10:00Z,"
                + " {\"dep_delay\":1.0,\"carrier\":\"C1\"}]]"),
        late);
    assertEquals(1, CounterReporter.LATE_ROWS.stream().mapToLong(Counter::getCount).sum());
  }

  @Test
  void checkpointsChangeNothing() throws Exception {
    List<String> expected = run("hashmap", "1 h", QUERY.formatted(SPEC));
    assertEquals(expected, run("hashmap", "10 ms", QUERY.formatted(SPEC)));
    assertEquals(expected, run("rocksdb", "10 ms", QUERY.formatted(SPEC)));
  }

  @Test
  void keysOfAShardAreAsThoseAlone() throws Exception {
    List<String> expected = run("hashmap", "1 h", QUERY.formatted(SPEC));
    for (String backend : List.of("hashmap", "rocksdb")) {
      assertEquals(expected, run(backend, "10 ms", SHARDED.formatted(SHARDED_SPEC)));
    }
  }

  /** Thousands of rows that wait, out of order: more than a shard has in it on RocksDB. */
  @Test
  void rowsThatWaitApartAreAsThoseThatWaitInTheShard() throws Exception {
    String time = "n * 100 + MOD(n * 7919, 200) * 1000";
    String query = SHARDED.formatted(SHARDED_SPEC);
    assertEquals(run("hashmap", "1 h", time, query), run("rocksdb", "10 ms", time, query));
  }

  /** Where what is grouped by is the same for all rows. */
  @Test
  void oneKeyAloneIsAShard() throws Exception {
    List<List<String>> told = new ArrayList<>();
    for (String filter : List.of("TRUE", "origin = 'JFK'")) {
      TableEnvironment env = departures("hashmap");
      env.executeSql(
          "CREATE VIEW sharded AS SELECT *, shard(origin, 1) AS `_shard` FROM departures WHERE "
              + filter);
      List<String> rows = rows(env, SHARDED.formatted(SHARDED_SPEC));
      rows.removeIf(row -> !row.startsWith("JFK"));
      told.add(rows);
    }
    assertEquals(8, told.get(0).size());
    assertEquals(told.get(0), told.get(1));
  }

  @ParameterizedTest
  @CsvSource({"hashmap,rocksdb", "rocksdb,hashmap"})
  void theOtherBackendsStateIsRefused(String before, String after, @TempDir Path folder)
      throws Exception {
    String insert = "INSERT INTO nowhere " + SHARDED.formatted(SHARDED_SPEC);
    JobClient job = endless(before, new Configuration()).executeSql(insert).getJobClient().get();
    while (job.getJobStatus().get() != JobStatus.RUNNING) {
      Thread.sleep(100);
    }
    Thread.sleep(1000);
    String savepoint =
        job.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
            .get();
    Configuration config = new Configuration();
    config.setString("execution.state-recovery.path", savepoint);
    config.setString("restart-strategy.type", "none");
    JobClient same = endless(before, config).executeSql(insert).getJobClient().get();
    Thread.sleep(2000);
    assertEquals(JobStatus.RUNNING, same.getJobStatus().get());
    same.cancel().get();
    Throwable error =
        assertThrows(
            ExecutionException.class, () -> endless(after, config).executeSql(insert).await());
    StringBuilder messages = new StringBuilder();
    for (; error != null; error = error.getCause()) {
      messages.append(error).append('\n');
    }
    assertTrue(messages.toString().contains("StateMigrationException"), messages.toString());
  }

  private static TableEnvironment endless(String backend, Configuration config) {
    TableEnvironment env = environment(backend, config.clone());
    env.executeSql(
        """
        CREATE TABLE departures (
          n BIGINT,
          event_time AS TO_TIMESTAMP_LTZ(n * 7000, 3),
          origin AS 'K' || CAST(MOD(n, 5) AS STRING),
          carrier AS 'C',
          dep_delay AS 1e0,
          WATERMARK FOR event_time AS event_time - INTERVAL '5' MINUTE
        ) WITH ('connector' = 'datagen', 'rows-per-second' = '1000',
          'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '1000000')""");
    env.executeSql(SHARDS);
    env.executeSql(
        """
        CREATE TABLE nowhere (origin STRING, `result` ROW<departures_1h BIGINT,
          dep_delay_mean_1h DOUBLE, dep_delay_max DOUBLE, last_carrier_1h STRING,
          event_time TIMESTAMP_LTZ(3), late_row STRING, origin STRING>)
          WITH ('connector' = 'blackhole')""");
    return env;
  }

  private static List<String> run(String backend, String checkpointInterval, String query)
      throws Exception {
    return run(backend, checkpointInterval, "n * 7000", query);
  }

  private static List<String> run(
      String backend, String checkpointInterval, String time, String query) throws Exception {
    Configuration config = new Configuration();
    config.setString("execution.checkpointing.interval", checkpointInterval);
    TableEnvironment env = environment(backend, config);
    env.executeSql(
        """
        CREATE TABLE departures (
          n BIGINT,
          event_time AS TO_TIMESTAMP_LTZ(%s, 3),
          origin AS 'K' || CAST(MOD(n * 7919, 5) AS STRING),
          carrier AS 'C' || CAST(n AS STRING),
          dep_delay AS CAST(MOD(n * 31, 97) AS DOUBLE) / 7,
          WATERMARK FOR event_time AS event_time - INTERVAL '5' MINUTE
        ) WITH ('connector' = 'datagen', 'rows-per-second' = '4000',
          'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '4000')"""
            .formatted(time));
    env.executeSql(SHARDS);
    List<String> rows = rows(env, query);
    assertTrue(rows.size() > 4000, "rows, and decay after them");
    return rows;
  }

  @Test
  void theOutputHasTheTypesOfTheSpec() {
    TableEnvironment env = departures("hashmap");
    assertEquals(
        "(\n  `origin` STRING,\n  `result` ROW<`departures_1h` BIGINT,"
            + " `dep_delay_mean_1h` DOUBLE, `dep_delay_max` DOUBLE, `last_carrier_1h` STRING,"
            + " `event_time` TIMESTAMP_LTZ(3), `late_row` STRING> NOT NULL\n)",
        env.sqlQuery(QUERY.formatted(SPEC))
            .getResolvedSchema()
            .toString()
            .replace("CHAR(3)", "STRING"));
  }

  @Test
  void aWrongSpecFailsWhenPlanned() {
    TableEnvironment env = departures("hashmap");
    String query = QUERY.formatted(SPEC.replace("dep_delay\"", "delay\""));
    Throwable error = assertThrows(RuntimeException.class, () -> env.sqlQuery(query));
    StringBuilder messages = new StringBuilder();
    for (; error != null; error = error.getCause()) {
      messages.append(error.getMessage()).append('\n');
    }
    assertTrue(messages.toString().contains("no column 'delay', choose of"), messages.toString());
  }
}
