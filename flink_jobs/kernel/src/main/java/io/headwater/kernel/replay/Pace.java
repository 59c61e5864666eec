package io.headwater.kernel.replay;

import io.headwater.kernel.redis.RedisAccess;
import java.io.Serializable;
import java.lang.ref.WeakReference;
import java.net.URI;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import javax.annotation.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import redis.clients.jedis.Jedis;

/**
 * How many records a second may pass, told by a key in Redis and changed while a job runs.
 *
 * <p>All that read the same key in one task manager share one gate. Without the key everything
 * passes; while Redis is away, the last rate holds.
 */
record Pace(URI url, @Nullable String username, @Nullable String passwordFile, String key)
    implements Serializable {

  private static final Logger LOG = LoggerFactory.getLogger(Pace.class);
  private static final long ASK_EVERY_MS = 500;
  private static final int TIMEOUT_MS = 500;
  private static final long BURST_NANOS = TimeUnit.MILLISECONDS.toNanos(20);
  private static final long SLICE_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final Map<Pace, WeakReference<Gate>> GATES = new HashMap<>();

  /** ValidationException unless the URL is one of Redis. */
  static Pace of(String url, @Nullable String username, @Nullable String passwordFile, String key) {
    return new Pace(RedisAccess.url(url, "pace"), username, passwordFile, key);
  }

  /** The gate of this pace; it closes itself when nobody holds it any more. */
  Gate open() {
    synchronized (GATES) {
      WeakReference<Gate> known = GATES.get(this);
      Gate gate = known == null ? null : known.get();
      if (gate == null) {
        gate = new Gate();
        WeakReference<Gate> weak = new WeakReference<>(gate);
        GATES.put(this, weak);
        Thread asks = new Thread(() -> ask(weak), toString());
        asks.setDaemon(true);
        asks.start();
      }
      return gate;
    }
  }

  /** Says nothing of the URL, which may hold a password. */
  @Override
  public String toString() {
    return "pace " + key;
  }

  /** Lets records pass at the rate that Redis tells. */
  static final class Gate {

    /** Records a second. */
    private static final double SLOWEST = 1;

    private volatile double rate = Double.POSITIVE_INFINITY;
    private volatile long heldNanos;
    private volatile boolean told;

    /** When the next record may pass, by {@link System#nanoTime}; guarded by this. */
    private long next = System.nanoTime();

    private Gate() {}

    /** Records a second; infinite if there is no limit. */
    double rate() {
      return rate;
    }

    /** How long records have been held back, in all. */
    long heldMs() {
      return TimeUnit.NANOSECONDS.toMillis(heldNanos);
    }

    /** Returns when one more record may pass. */
    void pass() throws InterruptedException {
      if (!told) {
        awaitFirstAnswer();
      }
      double known = rate;
      if (known == Double.POSITIVE_INFINITY) {
        return;
      }
      long due;
      synchronized (this) {
        next = Math.max(next, System.nanoTime() - BURST_NANOS) + (long) (1e9 / known);
        due = next;
      }
      long began = System.nanoTime();
      for (long left = due - began; left > BURST_NANOS; left = due - System.nanoTime()) {
        TimeUnit.NANOSECONDS.sleep(Math.min(left, SLICE_NANOS));
        if (rate != known) {
          synchronized (this) {
            next = System.nanoTime();
          }
          break;
        }
      }
      heldNanos += System.nanoTime() - began;
    }

    /**
     * The first records must not run ahead of a limit that was set before the job began: where no
     * answer comes they pass slowly until one does.
     */
    private void awaitFirstAnswer() throws InterruptedException {
      long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(2);
      while (!told && System.nanoTime() < deadline) {
        Thread.sleep(5);
      }
      if (!told) {
        rate = SLOWEST;
        told = true;
      }
    }

    private void tell(@Nullable String recordsASecond) {
      rate =
          recordsASecond == null
              ? Double.POSITIVE_INFINITY
              : Math.max(SLOWEST, Double.parseDouble(recordsASecond));
      told = true;
    }
  }

  private void ask(WeakReference<Gate> weak) {
    Jedis client = null;
    boolean warned = false;
    while (weak.get() != null) {
      try {
        if (client == null) {
          client = connect();
        }
        String answer = client.get(key);
        Gate gate = weak.get();
        if (gate != null) {
          gate.tell(answer);
        }
        warned = false;
      } catch (RuntimeException e) {
        if (!warned) {
          LOG.warn("{}: the last rate holds until Redis answers: {}", this, e.toString());
        }
        warned = true;
        if (client != null) {
          client.close();
        }
        client = null;
      }
      try {
        Thread.sleep(ASK_EVERY_MS);
      } catch (InterruptedException e) {
        break;
      }
    }
    if (client != null) {
      client.close();
    }
  }

  private Jedis connect() {
    return new Jedis(
        RedisAccess.server(url), RedisAccess.of(url, username, passwordFile, TIMEOUT_MS));
  }
}
