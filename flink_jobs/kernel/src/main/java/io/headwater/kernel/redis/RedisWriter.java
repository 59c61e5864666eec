package io.headwater.kernel.redis;

import io.headwater.kernel.traces.RowSpans;
import io.headwater.kernel.traces.RowTrace;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledFuture;
import javax.annotation.Nullable;
import org.apache.flink.api.common.operators.ProcessingTimeService;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.data.RowData;
import org.apache.flink.types.RowKind;

/** Gives the newest row of each entity to Redis, a batch at a time, while the next one fills. */
final class RedisWriter implements SinkWriter<RowData> {

  /** Batches that are not in Redis yet: one is answered, one on its way, one waits. */
  private static final int AHEAD = 3;

  private final RedisSinkConfig config;
  private final RowEncoder encoder;
  private final ProcessingTimeService clock;

  /** Null where rows are not traced. */
  @Nullable private final RowSpans spans;

  private final SinkMetrics metrics;
  private final Delivery delivery;

  /** By {@link RowEncoder#key}. */
  private Map<String, Pending> buffer = new LinkedHashMap<>();

  private final Queue<Future<?>> handedOver = new ArrayDeque<>();
  private ScheduledFuture<?> linger;

  RedisWriter(RedisSinkConfig config, MetricGroup metrics, ProcessingTimeService clock) {
    this.config = config;
    this.clock = clock;
    encoder = new RowEncoder(config);
    spans = config.trace() == null ? null : RowSpans.exported();
    this.metrics = new SinkMetrics(metrics);
    delivery = new Delivery(config, encoder, this.metrics);
  }

  @Override
  public void write(RowData row, Context context) throws IOException, InterruptedException {
    if (row.getRowKind() == RowKind.UPDATE_BEFORE) {
      return;
    }
    String key = encoder.key(row);
    long eventTime = encoder.eventTime(row);
    Pending buffered = buffer.get(key);
    if (buffered != null && buffered.eventTime > eventTime) {
      metrics.superseded();
      return;
    }
    if (buffer.isEmpty()) {
      // Runs in the task's own thread, as write and flush do.
      linger =
          clock.registerTimer(
              clock.getCurrentProcessingTime() + config.lingerMs(), time -> handOver());
    }
    if (buffered == null) {
      buffered = encoder.pending(key);
      buffer.put(key, buffered);
    }
    buffered.trace = trace(row, eventTime, buffered.trace);
    boolean delete = row.getRowKind() == RowKind.DELETE || encoder.isDelete(row);
    encoder.keep(row, eventTime, delete, buffered);
    if (buffer.size() >= config.batchSize()) {
      handOver();
    }
  }

  /** The trace to keep with a row: its own, or that of the row whose place it takes. */
  @Nullable
  private RowSpans.Write trace(RowData row, long eventTime, @Nullable RowSpans.Write before) {
    if (spans == null) {
      return null;
    }
    RowTrace sampled = encoder.trace(row);
    if (sampled == null) {
      return before;
    }
    if (before != null) {
      before.superseded();
    }
    return spans.begin(config.view(), sampled, eventTime);
  }

  /** Called before each checkpoint barrier: what came before it is in Redis afterwards. */
  @Override
  public void flush(boolean endOfInput) throws IOException, InterruptedException {
    handOver();
    while (!handedOver.isEmpty()) {
      await(handedOver.remove());
    }
  }

  /** Begins a new batch, once there is room for the last one. */
  private void handOver() throws IOException, InterruptedException {
    if (linger != null) {
      linger.cancel(false);
      linger = null;
    }
    if (!buffer.isEmpty()) {
      handedOver.add(delivery.send(buffer.values(), buffer.size() >= config.batchSize()));
      buffer = new LinkedHashMap<>();
    }
    while (!handedOver.isEmpty() && (handedOver.size() > AHEAD || handedOver.element().isDone())) {
      await(handedOver.remove());
    }
  }

  private void await(Future<?> batch) throws IOException, InterruptedException {
    try {
      batch.get();
    } catch (ExecutionException e) {
      throw new IOException(e.getCause().getMessage(), e.getCause());
    }
  }

  @Override
  public void close() {
    delivery.close();
  }
}
