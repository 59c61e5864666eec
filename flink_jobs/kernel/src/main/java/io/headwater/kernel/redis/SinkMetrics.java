package io.headwater.kernel.redis;

import java.util.List;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.Histogram;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.ThreadSafeSimpleCounter;
import org.apache.flink.runtime.metrics.DescriptiveStatisticsHistogram;

/** What a sink tells of its rows, from the task's thread and from that which talks to Redis. */
final class SinkMetrics {

  /** Rows that the quantiles of their age are of. */
  private static final int SAMPLED = 10_000;

  private final Counter writes;
  private final Counter older;
  private final Counter retries;

  /** From a row's event time until it can be read, in milliseconds. */
  private final Histogram freshness;

  private volatile long newest = Long.MIN_VALUE;

  SinkMetrics(MetricGroup metrics) {
    writes = metrics.counter("redisWrites", new ThreadSafeSimpleCounter());
    older = metrics.counter("redisOlder", new ThreadSafeSimpleCounter());
    retries = metrics.counter("redisRetries", new ThreadSafeSimpleCounter());
    freshness = metrics.histogram("freshnessMs", new DescriptiveStatisticsHistogram(SAMPLED));
    // -1 before the first row has landed.
    metrics.gauge(
        "lagMs",
        (Gauge<Long>) () -> newest == Long.MIN_VALUE ? -1 : System.currentTimeMillis() - newest);
  }

  /** A row lost to a newer one before it was sent. */
  void superseded() {
    older.inc();
  }

  void retried() {
    retries.inc();
  }

  /** Redis has answered for these rows, so many of which were new to it. */
  void answered(List<Pending> rows, long landed) {
    writes.inc(landed);
    older.inc(rows.size() - landed);
    long now = System.currentTimeMillis();
    for (Pending row : rows) {
      freshness.update(now - row.eventTime);
      if (landed > 0 && row.eventTime > newest) {
        newest = row.eventTime;
      }
    }
  }
}
