package io.headwater.kernel.redis;

import io.headwater.kernel.redis.Column.Kind;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.stream.Stream;
import org.apache.flink.core.memory.MemorySegment;
import org.apache.flink.core.memory.MemorySegmentFactory;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.data.binary.BinarySegmentUtils;
import org.apache.flink.table.data.writer.BinaryRowWriter;

/**
 * Rows a second of one writer, for {@code bench/sink.py}.
 *
 * <p>Arguments: the URL of a Redis, and a file of rows "key,event time,a,b,c" with two doubles and
 * a whole number as features. They are read and written once before the clock starts, and then as
 * those of the next year; prints how many were given to the writer, how many landed in Redis, and
 * the seconds. {@code --script N} prints the script for N features instead.
 */
final class WriterThroughput {

  private WriterThroughput() {}

  public static void main(String[] args) throws Exception {
    if (args[0].equals("--script")) {
      System.out.print(Script.of(Integer.parseInt(args[1]), false));
      return;
    }
    Rows rows = Rows.read(Path.of(args[1]));
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
      // The first year is not measured: it compiles.
      rows.writeAll(writer, 0);
      long before = metrics.count("redisWrites");
      long start = System.nanoTime();
      rows.writeAll(writer, 1);
      double seconds = (System.nanoTime() - start) / 1e9;
      System.out.printf(
          "{\"asked\": %d, \"written\": %d, \"seconds\": %.4f}%n",
          rows.ends.length, metrics.count("redisWrites") - before, seconds);
    }
  }

  /**
   * Rows in one array, as they come from another task, since millions of objects that stay would
   * have the garbage collector work more than the writer does.
   */
  private static final class Rows {

    private static final int WIDTH = 5;

    private final BinaryRowData row = new BinaryRowData(WIDTH);
    private final MemorySegment all;
    private final int[] ends;

    private Rows(byte[] all, int[] ends) {
      this.all = MemorySegmentFactory.wrap(all);
      this.ends = ends;
    }

    static Rows read(Path file) throws IOException {
      ByteArrayOutputStream all = new ByteArrayOutputStream(1 << 28);
      BinaryRowData row = new BinaryRowData(WIDTH);
      BinaryRowWriter writer = new BinaryRowWriter(row);
      int[] ends;
      try (Stream<String> lines = Files.lines(file)) {
        ends =
            lines
                .mapToInt(
                    line -> {
                      String[] parts = line.split(",");
                      writer.reset();
                      writer.writeString(0, StringData.fromString(parts[0]));
                      writer.writeLong(1, Long.parseLong(parts[1]));
                      writer.writeDouble(2, Double.parseDouble(parts[2]));
                      writer.writeDouble(3, Double.parseDouble(parts[3]));
                      writer.writeLong(4, Long.parseLong(parts[4]));
                      writer.complete();
                      all.writeBytes(
                          BinarySegmentUtils.copyToBytes(
                              row.getSegments(), 0, row.getSizeInBytes()));
                      return all.size();
                    })
                .toArray();
      }
      return new Rows(all.toByteArray(), ends);
    }

    /** As if they were of so many years later. */
    void writeAll(RedisWriter writer, int years) throws Exception {
      long later = years * Duration.ofDays(365).toMillis();
      int start = 0;
      for (int end : ends) {
        row.pointTo(all, start, end - start);
        if (later > 0) {
          row.setLong(1, row.getLong(1) + later);
        }
        writer.write(row, null);
        start = end;
      }
      writer.flush(true);
    }
  }
}
