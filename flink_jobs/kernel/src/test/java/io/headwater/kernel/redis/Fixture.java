package io.headwater.kernel.redis;

import io.headwater.kernel.redis.Column.Kind;
import java.net.URI;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Delayed;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.operators.ProcessingTimeService;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.types.RowKind;

/** A writer without a job around it, for rows of {@code origin, event_time, delay, deleted}. */
final class Fixture {

  static final List<Column> KEYS = List.of(new Column("origin", 0, Kind.STRING));
  static final List<Column> FEATURES = List.of(new Column("delay", 2, Kind.DOUBLE));

  private Fixture() {}

  static RedisSinkConfig config(
      int port, String view, String project, List<Column> keys, List<Column> features) {
    return config(url(port), 0, view, project, keys, features, 1000);
  }

  static RedisSinkConfig config(int port, long epoch) {
    return config(url(port), epoch, "delays", "flights", KEYS, FEATURES, 1000);
  }

  static RedisSinkConfig config(int port, int batchSize) {
    return config(url(port), 0, "delays", "flights", KEYS, FEATURES, batchSize);
  }

  static RedisSinkConfig withUrl(String url) {
    return config(url, 0, "delays", "flights", KEYS, FEATURES, 1000);
  }

  static String url(int port) {
    return "redis://127.0.0.1:" + port;
  }

  static RedisSinkConfig config(
      String url,
      long epoch,
      String view,
      String project,
      List<Column> keys,
      List<Column> features,
      int batchSize) {
    return new RedisSinkConfig(
        URI.create(url),
        null,
        null,
        false,
        0,
        project,
        view,
        epoch,
        keys,
        new Column("event_time", 1, Kind.BIGINT),
        new Column("deleted", 3, Kind.BOOLEAN),
        null,
        features,
        batchSize,
        200,
        1000,
        9);
  }

  static RedisSinkConfig connecting(
      RedisSinkConfig config, String user, String passwordFile, boolean cluster, int retries) {
    return varied(config, user, passwordFile, cluster, config.replicas(), config.trace(), retries);
  }

  /** Waits for {@code replicas}, of the server at {@code port}. */
  static RedisSinkConfig replicated(int port, int replicas, int retries) {
    return varied(config(port, 0L), null, null, false, replicas, null, retries);
  }

  /** For rows of {@link #traced}. */
  static RedisSinkConfig traced(int port) {
    RedisSinkConfig plain = config(port, 0L);
    Column trace = new Column("trace", 4, Kind.STRING);
    return varied(plain, null, null, false, 0, trace, plain.retries());
  }

  private static RedisSinkConfig varied(
      RedisSinkConfig config,
      String user,
      String passwordFile,
      boolean cluster,
      int replicas,
      Column trace,
      int retries) {
    return new RedisSinkConfig(
        config.url(),
        user,
        passwordFile,
        cluster,
        replicas,
        config.project(),
        config.view(),
        config.epoch(),
        config.keys(),
        config.eventTime(),
        config.deleted(),
        trace,
        config.features(),
        config.batchSize(),
        config.lingerMs(),
        config.timeoutMs(),
        retries);
  }

  static GenericRowData traced(String origin, long eventTime, double delay, String trace) {
    return GenericRowData.of(
        StringData.fromString(origin), eventTime, delay, null, StringData.fromString(trace));
  }

  static GenericRowData row(String origin, long eventTime, Double delay) {
    return GenericRowData.of(StringData.fromString(origin), eventTime, delay, null);
  }

  static GenericRowData deleted(String origin, long eventTime) {
    return GenericRowData.of(StringData.fromString(origin), eventTime, 0d, true);
  }

  static GenericRowData of(RowKind kind, GenericRowData row) {
    row.setRowKind(kind);
    return row;
  }

  /** Counters and gauges by name. */
  static final class Metrics extends UnregisteredMetricsGroup {
    private final Map<String, Counter> counters = new HashMap<>();
    private final Map<String, Gauge<?>> gauges = new HashMap<>();

    /** That of the first who asks, so that several writers are counted together. */
    @Override
    @SuppressWarnings("unchecked")
    public <C extends Counter> C counter(String name, C counter) {
      return (C) counters.computeIfAbsent(name, any -> counter);
    }

    @Override
    public <T, G extends Gauge<T>> G gauge(String name, G gauge) {
      gauges.put(name, gauge);
      return gauge;
    }

    long count(String name) {
      return counters.get(name).getCount();
    }

    Object gauge(String name) {
      return gauges.get(name).getValue();
    }
  }

  /** Timers that fire when the test says so. */
  static final class Clock implements ProcessingTimeService {
    private final List<Timer> timers = new ArrayList<>();

    @Override
    public long getCurrentProcessingTime() {
      return 0;
    }

    @Override
    public ScheduledFuture<?> registerTimer(long time, ProcessingTimeCallback callback) {
      Timer timer = new Timer(time, callback);
      timers.add(timer);
      return timer;
    }

    void advance(long time) throws Exception {
      for (Timer timer : List.copyOf(timers)) {
        if (timer.time <= time) {
          timers.remove(timer);
          if (!timer.isCancelled()) {
            timer.callback.onProcessingTime(timer.time);
          }
        }
      }
    }
  }

  private static final class Timer extends CompletableFuture<Void>
      implements ScheduledFuture<Void> {
    private final long time;
    private final ProcessingTimeService.ProcessingTimeCallback callback;

    private Timer(long time, ProcessingTimeService.ProcessingTimeCallback callback) {
      this.time = time;
      this.callback = callback;
    }

    @Override
    public long getDelay(TimeUnit unit) {
      return unit.convert(time, TimeUnit.MILLISECONDS);
    }

    @Override
    public int compareTo(Delayed other) {
      return Long.compare(getDelay(TimeUnit.MILLISECONDS), other.getDelay(TimeUnit.MILLISECONDS));
    }
  }
}
