package io.headwater.kernel.rolling;

import org.apache.flink.table.api.TableEnvironment;

/**
 * Rows a second of a local job, without and with {@code rolling}; run by hand.
 *
 * <p>Arguments: rows, keys, state backend, one row of how many is sampled (0: none is traced),
 * milliseconds between two events.
 */
final class Throughput {

  private Throughput() {}

  public static void main(String[] args) throws Exception {
    long rows = args.length > 0 ? Long.parseLong(args[0]) : 4_000_000;
    long keys = args.length > 1 ? Long.parseLong(args[1]) : 3;
    String backend = args.length > 2 ? args[2] : "hashmap";
    long sampled = args.length > 3 ? Long.parseLong(args[3]) : 0;
    long step = args.length > 4 ? Long.parseLong(args[4]) : 9400;
    String trace = sampled > 0 ? "\"trace\": \"traceparent\", " : "";
    for (int round = 0; round < 2; round++) {
      for (boolean kernel : new boolean[] {false, true}) {
        TableEnvironment env = RollingSqlTest.environment(backend);
        // As a source does it that reads 20,000 rows between two watermarks.
        env.getConfig().set("pipeline.auto-watermark-interval", 20_000 * step + " ms");
        // A year of departures: one each 94 seconds on average, times ten.
        env.executeSql(
            """
            CREATE TABLE departures (
              n BIGINT,
              event_time AS TO_TIMESTAMP_LTZ(n * %d, 3),
              origin AS 'K' || CAST(MOD(n * 7919, %d) AS STRING),
              dep_delay AS CAST(MOD(n * 31, 97) AS DOUBLE),
              traceparent AS CASE WHEN MOD(n, %d) = 0
                THEN '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' END,
              WATERMARK FOR event_time AS event_time - INTERVAL '5' MINUTE
            ) WITH ('connector' = 'datagen', 'rows-per-second' = '100000000',
              'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '%d')"""
                .formatted(step, keys, Math.max(1, sampled), rows));
        env.executeSql(
            "CREATE VIEW sharded AS SELECT *, shard(origin) AS `_shard` FROM departures");
        env.executeSql(
            """
            CREATE TABLE nowhere (origin STRING, n1 BIGINT, m1 DOUBLE, s1 DOUBLE, x1 DOUBLE,
              n24 BIGINT, m24 DOUBLE, rowtime TIMESTAMP_LTZ(3)) WITH ('connector' = 'blackhole')""");
        String features =
            feature("n1", "count", "dep_delay", 7_200_000, 60_000)
                + ","
                + feature("m1", "mean", "dep_delay", 7_200_000, 60_000)
                + ","
                + feature("s1", "stddev", "dep_delay", 7_200_000, 60_000)
                + ","
                + feature("x1", "max", "dep_delay", 7_200_000, 60_000)
                + ","
                + feature("n24", "count", "dep_delay", 86_400_000, 3_600_000)
                + ","
                + feature("m24", "mean", "dep_delay", 86_400_000, 3_600_000);
        String query =
            kernel
                ? "SELECT `result`.origin, `result`.n1, `result`.m1, `result`.s1, `result`.x1,"
                    + " `result`.n24, `result`.m24, `result`.event_time"
                    + " FROM rolling(input => TABLE sharded PARTITION BY `_shard`,"
                    + " uid => 'bench', spec => '{\"time\": \"event_time\","
                    + " \"keys\": [\"origin\"], "
                    + trace
                    + "\"features\": ["
                    + features
                    + "]}')"
                : "SELECT origin, n, dep_delay, dep_delay, dep_delay, n, dep_delay, event_time"
                    + " FROM departures";
        long start = System.nanoTime();
        env.executeSql("INSERT INTO nowhere " + query).await();
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf(
            "%s %s: %d rows, %d keys, %.1f s, %.0f rows/s%n",
            backend, kernel ? "rolling" : "source only", rows, keys, seconds, rows / seconds);
      }
    }
  }

  private static String feature(String name, String op, String column, long window, long tile) {
    return "{\"name\": \"%s\", \"op\": \"%s\", \"column\": \"%s\", \"window_ms\": %d, \"tile_ms\": %d}"
        .formatted(name, op, column, window, tile);
  }
}
