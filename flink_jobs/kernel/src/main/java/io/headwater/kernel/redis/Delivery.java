package io.headwater.kernel.redis;

import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.annotation.Nullable;
import org.apache.flink.util.concurrent.ExecutorThreadFactory;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.exceptions.JedisAccessControlException;

/**
 * Batches on their way to Redis, in their order: one is sent while the one before is answered, so
 * that Redis need not wait for the network and for us between two.
 *
 * <p>A batch may be written again, in part or in whole: the same row lands on itself. That is why a
 * failure of any kind has one answer, which is to connect anew and to send again, from the oldest
 * batch on, what is not known to have landed.
 */
final class Delivery implements AutoCloseable {

  /** Entities in one call of the script at most, which others wait for. */
  private static final int AT_ONCE = 100;

  /** The same of a batch that is not full: there is time for lookups between two calls. */
  private static final int AT_EASE = 25;

  /**
   * Values in one call, each of which takes Redis about half a microsecond; one entity's at the
   * least.
   */
  private static final int VALUES = 600;

  /** Bytes of strings in one call; the same. Redis refuses a call of more than 512 MB for good. */
  private static final int TEXT = 64 << 10;

  /** Batches that are sent and not answered, where they are full. */
  private static final int WINDOW = 2;

  private static final Logger LOG = LoggerFactory.getLogger(Delivery.class);
  private static final long FIRST_BACK_OFF_MS = 100;
  private static final long LONGEST_BACK_OFF_MS = 5_000;

  private final RedisSinkConfig config;
  private final RowEncoder encoder;
  private final SinkMetrics metrics;
  private final String script;

  /** Entities in one call. In a cluster, the keys of one call are of one slot. */
  private final int atOnce;

  private final ExecutorService thread =
      Executors.newSingleThreadExecutor(new ExecutorThreadFactory("feast-redis"));

  /** Rows that were given to {@link #thread} and not yet taken up by it. */
  private final AtomicInteger waiting = new AtomicInteger();

  private final Watch watch;

  @Nullable private volatile RedisLink link;

  // Of the thread alone:
  private final Queue<Batch> underWay = new ArrayDeque<>();
  @Nullable private IOException failure;
  private int retry;

  Delivery(RedisSinkConfig config, RowEncoder encoder, SinkMetrics metrics) {
    this.config = config;
    this.encoder = encoder;
    this.metrics = metrics;
    script = Script.of(config.features().size(), config.trace() != null);
    int values = Script.HEADER + config.features().size();
    atOnce = config.cluster() ? 1 : Math.max(1, Math.min(AT_ONCE, VALUES / values));
    watch = new Watch(Math.max(1, config.timeoutMs() / 4), this::cutOff);
  }

  /** Rows of different entities, by calls of the script, all of which are one round trip. */
  private final class Batch {

    /** Those that are not known to have landed. */
    private final List<List<Pending>> calls = new ArrayList<>();

    private final List<Response<Object>> answers = new ArrayList<>();
    private final CompletableFuture<Void> landed = new CompletableFuture<>();
    private final boolean full;
    private final int size;
    @Nullable private AbstractPipeline pipeline;
    @Nullable private Response<Object> replicas;

    Batch(Collection<Pending> rows, boolean full) {
      this.full = full;
      size = rows.size();
      List<Pending> call = null;
      long bytes = 0;
      for (Pending row : rows) {
        long text = encoder.text(row);
        if (call == null || call.size() == atOnce || bytes + text > TEXT) {
          call = new ArrayList<>(atOnce);
          calls.add(call);
          bytes = 0;
        }
        call.add(row);
        bytes += text;
      }
    }

    boolean isSent() {
      return pipeline != null;
    }

    /** A cluster's pipeline has connections of its own, and a refusal leaves them with it. */
    void forgetSending() {
      if (pipeline != null) {
        RedisLink.close(pipeline);
        pipeline = null;
      }
      answers.clear();
      replicas = null;
    }

    void send() throws IOException {
      pipeline = link.pipelined();
      try {
        for (List<Pending> call : calls) {
          watch.allow(config.timeoutMs());
          answers.add(pipeline.evalsha(link.script, call.size(), encoder.parameters(call)));
        }
        if (config.replicas() > 0) {
          replicas =
              pipeline.sendCommand(
                  Protocol.Command.WAIT,
                  Integer.toString(config.replicas()),
                  Integer.toString(config.timeoutMs() / 2));
        }
      } finally {
        watch.done();
      }
    }

    /** Takes away what Redis has answered for; throws if something is left. */
    void settle() {
      try {
        // The rest is written, then each answer has its own time.
        watch.allow(config.timeoutMs() * (answers.size() + 2L));
        pipeline.sync();
      } finally {
        watch.done();
      }
      if (replicas != null && (Long) replicas.get() < config.replicas()) {
        throw new IllegalStateException(
            "%d of %d replicas have them".formatted((Long) replicas.get(), config.replicas()));
      }
      RuntimeException refusal = null;
      Iterator<List<Pending>> left = calls.iterator();
      for (Response<Object> answer : answers) {
        List<Pending> call = left.next();
        try {
          metrics.answered(call, (Long) answer.get());
        } catch (RuntimeException e) {
          refusal = e;
          continue;
        }
        left.remove();
        for (Pending row : call) {
          if (row.trace != null) {
            row.trace.written(call.size());
          }
        }
      }
      if (refusal != null) {
        throw refusal;
      }
      pipeline.close();
    }
  }

  /**
   * Sends rows of different entities; done when they are in Redis, failed if they cannot be.
   *
   * <p>Redis does one thing at a time, and the sinks of all views write at once, at a checkpoint or
   * when the same events have waited long enough. A batch that is not full is in no haste, so it
   * goes by small calls, each when the one before is answered: a lookup waits for one of each sink.
   */
  Future<Void> send(Collection<Pending> rows, boolean full) {
    if (full) {
      return handOver(new Batch(rows, true));
    }
    List<Pending> left = List.copyOf(rows);
    Future<Void> last = CompletableFuture.completedFuture(null);
    for (int i = 0; i < left.size(); i += AT_EASE) {
      List<Pending> few = left.subList(i, Math.min(i + AT_EASE, left.size()));
      last = handOver(new Batch(few, false));
    }
    return last;
  }

  private Future<Void> handOver(Batch batch) {
    waiting.addAndGet(batch.size);
    thread.execute(() -> take(batch));
    return batch.landed;
  }

  private void take(Batch batch) {
    waiting.addAndGet(-batch.size);
    underWay.add(batch);
    if (failure == null) {
      try {
        deliver(batch.full && !config.cluster() ? WINDOW : 1);
        return;
      } catch (IOException e) {
        failure = e;
      } catch (InterruptedException e) {
        failure = new IOException("closed while rows were being written", e);
      } catch (Throwable e) {
        failure = new IOException(name() + ": " + e, e);
      } finally {
        if (thread.isShutdown()) {
          disconnect(); // whoever closes this may have waited no longer
        }
      }
    }
    underWay.forEach(left -> left.landed.completeExceptionally(failure));
    underWay.clear();
  }

  /** Until nothing is under way, or until there is something to be sent within the window. */
  private void deliver(int window) throws IOException, InterruptedException {
    while (!underWay.isEmpty()) {
      if (thread.isShutdown()) { // the interruption may have been swallowed
        throw new InterruptedException();
      }
      try {
        if (link == null) {
          link = RedisLink.open(config, script);
        }
        for (Batch batch : underWay) {
          if (!batch.isSent()) {
            batch.send();
          }
        }
        if (underWay.size() < window && waiting.get() > 0) {
          return;
        }
        underWay.element().settle();
        underWay.remove().landed.complete(null);
        retry = 0;
      } catch (RuntimeException e) {
        disconnect();
        underWay.forEach(Batch::forgetSending);
        backOff(withoutArguments(e));
      }
    }
  }

  private void backOff(RuntimeException cause) throws IOException, InterruptedException {
    int sent = underWay.stream().flatMap(batch -> batch.calls.stream()).mapToInt(List::size).sum();
    int left = sent + waiting.get();
    if (retry >= config.retries() || isHopeless(cause)) {
      throw new IOException(
          "%s: %d entities not written after %d retries: %s"
              .formatted(name(), left, retry, cause.getMessage()),
          cause);
    }
    long wait = Math.min(FIRST_BACK_OFF_MS << Math.min(retry, 16), LONGEST_BACK_OFF_MS);
    LOG.warn("{}: {} entities wait, next try in {} ms: {}", name(), left, wait, cause.toString());
    metrics.retried();
    Thread.sleep(wait);
    retry++;
  }

  private String name() {
    return "redis %s: view %s".formatted(config.server(), config.view());
  }

  /** A server that does not know a command repeats its arguments, to AUTH the password. */
  private static RuntimeException withoutArguments(RuntimeException failure) {
    for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
      int arguments = String.valueOf(cause.getMessage()).indexOf(", with args");
      if (arguments >= 0) {
        return new IllegalStateException(cause.getMessage().substring(0, arguments));
      }
    }
    return failure;
  }

  /** Whether no retry can help, unlike with a server that restarts, loads or fails over. */
  private static boolean isHopeless(Throwable failure) {
    for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
      if (cause instanceof JedisAccessControlException
          || String.valueOf(cause.getMessage()).contains("WRONGTYPE")) {
        return true;
      }
    }
    return false;
  }

  /** The thread, which hangs in writing to it, gets an error then, and connects anew. */
  private void cutOff() {
    RedisLink current = link;
    if (current != null) {
      LOG.warn("{}: nothing was taken for {} ms", name(), config.timeoutMs());
      current.close();
    }
  }

  private synchronized void disconnect() {
    if (link != null) {
      link.close();
      link = null;
    }
  }

  @Override
  public void close() {
    // What is not written is not in a checkpoint yet, so it comes again.
    thread.shutdownNow();
    try {
      thread.awaitTermination(config.timeoutMs(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    disconnect();
    watch.close();
  }
}
