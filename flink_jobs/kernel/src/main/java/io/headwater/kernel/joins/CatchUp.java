package io.headwater.kernel.joins;

import java.util.function.LongSupplier;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.table.data.RowData;

/**
 * The watermarks of what events are joined with: they hold events back while a partition catches up
 * with its log, and otherwise say nothing.
 *
 * <p>A partition catches up until all is read that the log held when the reader began, and later
 * while its records were written more than {@link #LIVE_MS} ago, until it falls silent, or for
 * {@link #PATIENCE_MS} where it does not: it is late by nature then, or by its clock, and holds
 * nothing until one of its records is news again. Where the log's end is not known, it is silence
 * that tells of it; where it is known to be far, silence says that the broker or the job itself is
 * slow, and is borne for longer. It never moves time forward: Flink takes the least watermark of
 * the inputs that are not idle, so that the clock of a table would become that of a stream without
 * events, all of which would then be late.
 */
final class CatchUp implements WatermarkGenerator<RowData> {

  /** A record as new as this is news, which events wait for by their own disorder. */
  static final long LIVE_MS = 10_000;

  /** Without a record for as long, all have been read, wherever the log ends. */
  static final long SILENT_MS = 10_000;

  /** The same for the first record, before which a consumer must find its broker. */
  static final long START_MS = 30_000;

  /** The same for a record, or the first one, where it is known that many are still to come. */
  static final long FAR_SILENT_MS = 120_000;

  /** No longer is held for old records that never cease, if all is read that was there at first. */
  static final long PATIENCE_MS = 120_000;

  /** Fewer may be marks of transactions, which nobody gets to read. */
  static final long MANY = 100;

  private final LongSupplier clock;
  private final LongSupplier active;
  private final LongSupplier left;
  private long start = Long.MIN_VALUE;
  private long last = Long.MIN_VALUE;
  private long since = Long.MIN_VALUE;

  /** What was left at the last look, and since when it is no less. */
  private long least = Long.MAX_VALUE;

  private long leastSince;
  private boolean behind;
  private boolean caughtUp;
  private boolean letGo;
  private boolean lateByNature;

  /**
   * With a clock in milliseconds; one that stands still while the reader may not read, since those
   * behind it are slow: that is no silence; and what tells how much is left of what was there at
   * first ({@link io.headwater.kernel.kafka.LogEnd#left}).
   */
  CatchUp(LongSupplier clock, LongSupplier active, LongSupplier left) {
    this.clock = clock;
    this.active = active;
    this.left = left;
  }

  @Override
  public void onEvent(RowData row, long written, WatermarkOutput output) {
    last = active.getAsLong();
    if (clock.getAsLong() - written <= LIVE_MS) {
      behind = false;
      lateByNature = false;
    } else if (!behind && !lateByNature) {
      behind = true;
      since = last;
      hold(output);
    }
  }

  @Override
  public void onPeriodicEmit(WatermarkOutput output) {
    long now = active.getAsLong();
    start = start == Long.MIN_VALUE ? now : start;
    long remaining = caughtUp ? 0 : left.getAsLong();
    if (!caughtUp && remaining == 0) {
      caughtUp = true;
      behind = false;
    }
    if (behind && letGo && remaining <= 0 && now - since >= PATIENCE_MS) {
      lateByNature = true;
      behind = false;
    }
    if (remaining >= 0 && remaining < least) {
      least = remaining;
      leastSince = now;
    }
    boolean far = remaining > MANY;
    long borne = far ? FAR_SILENT_MS : SILENT_MS;
    // Records that are news may still come before others of what the log held: those of a table's
    // snapshot are as new as the snapshot. What never grows less is marks, or another's partition.
    boolean unread = remaining > 0 && now - leastSince < borne;
    boolean waits =
        last == Long.MIN_VALUE
            ? !caughtUp && now - start < (far ? FAR_SILENT_MS : START_MS)
            : (behind || unread) && now - last < borne;
    if (waits) {
      hold(output);
    } else {
      behind = false;
      letGo = true;
      output.markIdle();
    }
  }

  /** Flink tells that a source is active again by a watermark that is greater than the last. */
  private void hold(WatermarkOutput output) {
    output.markActive();
    output.emitWatermark(new Watermark(Long.MIN_VALUE + clock.getAsLong()));
  }
}
