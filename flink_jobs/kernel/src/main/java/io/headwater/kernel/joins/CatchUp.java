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
 * <p>A partition catches up while its records were written more than {@link #LIVE_MS} ago, until it
 * falls silent. It never moves time forward: Flink takes the least watermark of the inputs that are
 * not idle, so that the clock of a table would become that of a stream without events, all of which
 * would then be late.
 */
final class CatchUp implements WatermarkGenerator<RowData> {

  /** A record as new as this is news, which events wait for by their own disorder. */
  static final long LIVE_MS = 10_000;

  /** Without a record for as long, all have been read. */
  static final long SILENT_MS = 10_000;

  /** The same for the first record, before which a consumer must find its broker. */
  static final long START_MS = 30_000;

  private final LongSupplier clock;
  private long start = Long.MIN_VALUE;
  private long last = Long.MIN_VALUE;
  private boolean behind;

  CatchUp(LongSupplier clock) {
    this.clock = clock;
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
    if (last == Long.MIN_VALUE ? now - start < START_MS : behind && now - last < SILENT_MS) {
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
