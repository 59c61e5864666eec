package io.headwater.kernel.redis;

import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.flink.util.concurrent.ExecutorThreadFactory;

/**
 * Ends what takes too long, from another thread: a socket's timeout is for reading, and a write to
 * a server that hangs, or is gone without a word, waits until TCP gives up, a quarter of an hour.
 */
final class Watch implements AutoCloseable {

  private final ScheduledExecutorService thread =
      Executors.newSingleThreadScheduledExecutor(new ExecutorThreadFactory("feast-redis-watch"));

  /** By {@link System#nanoTime}, while {@link #watching}. */
  private volatile long due;

  private volatile boolean watching;

  /** Looks each {@code everyMs}; calls {@code end} once for what is over its time. */
  Watch(long everyMs, Runnable end) {
    thread.scheduleWithFixedDelay(() -> look(end), everyMs, everyMs, TimeUnit.MILLISECONDS);
  }

  private void look(Runnable end) {
    if (watching && System.nanoTime() - due > 0) {
      watching = false;
      end.run();
    }
  }

  /** What goes on now may take so long from now on. */
  void allow(long ms) {
    due = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ms);
    watching = true;
  }

  /** Nothing goes on any more that could take too long. */
  void done() {
    watching = false;
  }

  @Override
  public void close() {
    thread.shutdownNow();
  }
}
