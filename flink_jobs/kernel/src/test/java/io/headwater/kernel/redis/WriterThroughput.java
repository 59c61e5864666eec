package io.headwater.kernel.redis;

import io.headwater.kernel.redis.Column.Kind;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;

/**
 * Rows a second of one writer against a local Redis; run by hand, with {@code -Dredis.server=}.
 *
 * <p>Arguments: rows, keys, features.
 */
final class WriterThroughput {

  private WriterThroughput() {}

  public static void main(String[] args) throws Exception {
    int rows = args.length > 0 ? Integer.parseInt(args[0]) : 1_000_000;
    int keys = args.length > 1 ? Integer.parseInt(args[1]) : 100_000;
    int width = args.length > 2 ? Integer.parseInt(args[2]) : 6;
    List<Column> features = new ArrayList<>();
    for (int i = 0; i < width; i++) {
      features.add(new Column("feature_" + i, 4 + i, Kind.DOUBLE));
    }
    for (int batchSize : new int[] {1, 100, 1000, 1000, 10_000}) {
      try (RedisServer server = new RedisServer("--appendonly", "no");
          RedisWriter writer =
              new RedisWriter(
                  Fixture.config(
                      Fixture.url(server.port),
                      0,
                      "delays",
                      "flights",
                      Fixture.KEYS,
                      features,
                      batchSize),
                  new Fixture.Metrics(),
                  new Fixture.Clock())) {
        GenericRowData row = new GenericRowData(4 + width);
        int count = batchSize == 1 ? rows / 20 : rows;
        long start = System.nanoTime();
        for (int i = 0; i < count; i++) {
          row.setField(0, StringData.fromString("K" + i % keys));
          row.setField(1, (long) i);
          for (int feature = 0; feature < width; feature++) {
            row.setField(4 + feature, (double) i);
          }
          writer.write(row, null);
        }
        writer.flush(true);
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf(
            "batch of %d: %d rows, %d keys, %d features, %.1f s, %.0f rows/s%n",
            batchSize, count, keys, width, seconds, count / seconds);
      }
    }
  }
}
