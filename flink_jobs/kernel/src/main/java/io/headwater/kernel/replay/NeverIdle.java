package io.headwater.kernel.replay;

import org.apache.flink.api.common.eventtime.TimestampAssigner;
import org.apache.flink.api.common.eventtime.TimestampAssignerSupplier;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkAlignmentParams;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkGeneratorSupplier;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.table.data.RowData;

/**
 * Watermarks of partitions whose silence says nothing. A reader that leaves one unread while it is
 * ahead of the others must not have it count as idle: time would pass by what it still holds.
 */
record NeverIdle(WatermarkStrategy<RowData> declared) implements WatermarkStrategy<RowData> {

  private static final long serialVersionUID = 1L;

  @Override
  public WatermarkGenerator<RowData> createWatermarkGenerator(
      WatermarkGeneratorSupplier.Context context) {
    return new Active(declared.createWatermarkGenerator(context));
  }

  @Override
  public TimestampAssigner<RowData> createTimestampAssigner(
      TimestampAssignerSupplier.Context context) {
    return declared.createTimestampAssigner(context);
  }

  @Override
  public WatermarkAlignmentParams getAlignmentParameters() {
    return declared.getAlignmentParameters();
  }

  /** Gives itself to the declared generator as the output of its partition. */
  private static final class Active implements WatermarkGenerator<RowData>, WatermarkOutput {

    private final WatermarkGenerator<RowData> declared;
    private WatermarkOutput partition;

    Active(WatermarkGenerator<RowData> declared) {
      this.declared = declared;
    }

    @Override
    public void onEvent(RowData row, long time, WatermarkOutput output) {
      partition = output;
      declared.onEvent(row, time, this);
    }

    @Override
    public void onPeriodicEmit(WatermarkOutput output) {
      partition = output;
      declared.onPeriodicEmit(this);
    }

    @Override
    public void emitWatermark(Watermark watermark) {
      partition.emitWatermark(watermark);
    }

    @Override
    public void markIdle() {}

    @Override
    public void markActive() {
      partition.markActive();
    }
  }
}
