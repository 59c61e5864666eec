package io.headwater.kernel.quality;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.Test;

/** Windows of Flink SQL over what {@code rolling} lets out. */
class TimedTest {

  private static final String SPEC =
      """
      {"time": "rowtime", "features": [
        {"name": "n", "op": "count", "column": null, "window_ms": 1800000, "tile_ms": 600000}]}""";

  @Test
  void rowsOfAViewAreSummedUpByWindowsOfTheirEventTime() throws Exception {
    Configuration config = new Configuration();
    config.setString("parallelism.default", "1");
    config.setString("table.local-time-zone", "UTC");
    TableEnvironment env =
        TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(config).build());
    env.executeSql(
        "CREATE TEMPORARY SYSTEM FUNCTION rolling AS 'io.headwater.kernel.rolling.Rolling'");
    env.executeSql("CREATE TEMPORARY SYSTEM FUNCTION timed AS '" + Timed.class.getName() + "'");
    // An event each ten minutes; the fifth is late.
    env.executeSql(
        """
        CREATE TABLE events (
          n BIGINT,
          rowtime AS TO_TIMESTAMP_LTZ(IF(n = 5, 1, n) * 600000, 3),
          who AS IF(MOD(n, 2) = 0, 'even', 'odd'),
          WATERMARK FOR rowtime AS rowtime - INTERVAL '5' MINUTE
        ) WITH ('connector' = 'datagen', 'rows-per-second' = '2', 'number-of-rows' = '7',
          'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '7')""");
    env.createTemporaryView(
        "rolled",
        env.sqlQuery(
            """
            SELECT * FROM rolling(
              input => TABLE events PARTITION BY who, spec => '%s', uid => 'v')"""
                .formatted(SPEC)));
    env.createTemporaryView(
        "whole", env.sqlQuery("SELECT who, n, event_time FROM rolled WHERE late_row IS NULL"));
    // Silence: a record that is no event, as a heartbeat is none.
    env.createTemporaryView(
        "rows_and_silence",
        env.sqlQuery(
            """
            SELECT who, n, event_time FROM timed(input => TABLE whole, uid => 'timed')
            UNION ALL
            SELECT CAST(NULL AS STRING), CAST(NULL AS BIGINT), rowtime FROM events WHERE n = 7"""));
    List<String> windows = new ArrayList<>();
    try (CloseableIterator<Row> it =
        env.executeSql(
                """
                SELECT CAST(window_start AS TIMESTAMP_LTZ(3)), COUNT(who), COUNT(*), SUM(n)
                FROM TUMBLE(
                  (SELECT * FROM rows_and_silence), DESCRIPTOR(event_time), INTERVAL '30' MINUTE)
                GROUP BY window_start, window_end""")
            .collect()) {
      while (it.hasNext()) {
        Row row = it.next();
        windows.add(
            "%03d %s %s %s"
                .formatted(
                    ((Instant) row.getField(0)).getEpochSecond() / 60,
                    row.getField(1),
                    row.getField(2),
                    row.getField(3)));
      }
    }
    windows.sort(null);
    assertEquals(List.of("000 2 2 2", "030 4 4 6", "060 4 5 4", "090 2 2 0"), windows);
  }
}
