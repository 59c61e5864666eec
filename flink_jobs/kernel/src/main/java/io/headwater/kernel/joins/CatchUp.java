package io.headwater.kernel.joins;

import java.util.function.BooleanSupplier;
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
 * while its records were written more than {@link #LIVE_MS} ago, until it falls silent. Where the
 * log's end is not known, it is silence that tells of it. It never moves time forward: Flink takes
 * the least watermark of the inputs that are not idle, so that the clock of a table would become
 * that of a stream without events, all of which would then be late.
 */
final class CatchUp implements WatermarkGenerator<RowData> {

  /** A record as new as this is news, which events wait for by their own disorder. */
  static final long LIVE_MS = 10_000;

  /** Without a record for as long, all have been read, wherever the log ends. */
  static final long SILENT_MS = 10_000;

  /** The same for the first record, before which a consumer must find its broker. */
  static final long START_MS = 30_000;

  private final LongSupplier clock;
  private final BooleanSupplier endOfLog;
  private long start = Long.MIN_VALUE;
  private long last = Long.MIN_VALUE;
  private boolean behind;
  private boolean caughtUp;

  /**
   * With a clock in milliseconds, and what tells whether all has been read that was there at first.
   */
  CatchUp(LongSupplier clock, BooleanSupplier endOfLog) {
    this.clock = clock;
    this.endOfLog = endOfLog;
  }

  @Override
  public void onEvent(RowData row, long written, WatermarkOutput output) {
    long now = clock.getAsLong();
    boolean wasBehind = behind;
    last = now;
    behind = now - written > LIVE_MS;
    if (behind && !wasBehind) {
      hold(now, output);
    }
  }

  @Override
  public void onPeriodicEmit(WatermarkOutput output) {
    long now = clock.getAsLong();
    start = start == Long.MIN_VALUE ? now : start;
    if (!caughtUp && endOfLog.getAsBoolean()) {
      caughtUp = true;
      behind = false;
    }
    boolean waits =
        last == Long.MIN_VALUE
            ? !caughtUp && now - start < START_MS
            : behind && now - last < SILENT_MS;
    if (waits) {
      hold(now, output);
    } else {
      behind = false;
      output.markIdle();
    }
  }

  /** Flink tells that a source is active again by a watermark that is greater than the last. */
  private static void hold(long now, WatermarkOutput output) {
    output.markActive();
    output.emitWatermark(new Watermark(Long.MIN_VALUE + now));
  }
}
