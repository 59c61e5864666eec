package io.headwater.kernel.redis;

import io.headwater.kernel.redis.Column.Kind;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;

/**
 * Rows a second of one writer, for {@code bench/sink.py}.
 *
 * <p>Arguments: the URL of a Redis, and a file of rows "key,event time,a,b,c" with two doubles and
 * a whole number as features. Rows are read before the clock starts; prints how many were given to
 * the writer, how many landed in Redis, and the seconds. {@code --script N} prints the script for N
 * features instead.
 */
final class WriterThroughput {

  private WriterThroughput() {}

  public static void main(String[] args) throws Exception {
    if (args[0].equals("--script")) {
      System.out.print(Script.of(Integer.parseInt(args[1]), false));
      return;
    }
    List<GenericRowData> rows = rows(Path.of(args[1]));
    RedisSinkConfig config =
        new RedisSinkConfig(
            URI.create(args[0]),
            null,
            null,
            false,
            0,
            "bench",
            "departures",
            0,
            List.of(new Column("tailnum", 0, Kind.STRING)),
            new Column("event_time", 1, Kind.BIGINT),
            null,
            null,
            List.of(
                new Column("dep_delay", 2, Kind.DOUBLE),
                new Column("distance", 3, Kind.DOUBLE),
                new Column("flight", 4, Kind.BIGINT)),
            1000,
            200,
            2000,
            9);
    Fixture.Metrics metrics = new Fixture.Metrics();
    try (RedisWriter writer = new RedisWriter(config, metrics, new Fixture.Clock())) {
      // The first tenth is not measured: it compiles.
      int first = rows.size() / 10;
      for (GenericRowData row : rows.subList(0, first)) {
        writer.write(row, null);
      }
      writer.flush(false);
      long before = metrics.count("redisWrites");
      long start = System.nanoTime();
      for (GenericRowData row : rows.subList(first, rows.size())) {
        writer.write(row, null);
      }
      writer.flush(true);
      double seconds = (System.nanoTime() - start) / 1e9;
      System.out.printf(
          "{\"asked\": %d, \"written\": %d, \"seconds\": %.4f}%n",
          rows.size() - first, metrics.count("redisWrites") - before, seconds);
    }
  }

  private static List<GenericRowData> rows(Path file) throws IOException {
    List<GenericRowData> rows = new ArrayList<>();
    for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
      String[] parts = line.split(",");
      rows.add(
          GenericRowData.of(
              StringData.fromString(parts[0]),
              Long.parseLong(parts[1]),
              Double.parseDouble(parts[2]),
              Double.parseDouble(parts[3]),
              Long.parseLong(parts[4])));
    }
    return rows;
  }
}
