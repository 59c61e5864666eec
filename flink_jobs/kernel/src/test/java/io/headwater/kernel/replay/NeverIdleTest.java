package io.headwater.kernel.replay;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkGeneratorSupplier;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.clock.ManualClock;
import org.apache.flink.util.clock.RelativeClock;
import org.junit.jupiter.api.Test;

class NeverIdleTest {

  private final List<String> told = new ArrayList<>();
  private final ManualClock clock = new ManualClock();
  private final WatermarkOutput output =
      new WatermarkOutput() {
        @Override
        public void emitWatermark(Watermark watermark) {
          told.add("" + watermark.getTimestamp());
        }

        @Override
        public void markIdle() {
          told.add("idle");
        }

        @Override
        public void markActive() {
          told.add("active");
        }
      };
  private final WatermarkGeneratorSupplier.Context context =
      new WatermarkGeneratorSupplier.Context() {
        @Override
        public MetricGroup getMetricGroup() {
          return new UnregisteredMetricsGroup();
        }

        @Override
        public RelativeClock getInputActivityClock() {
          return clock;
        }
      };

  private List<String> afterSilence(WatermarkStrategy<RowData> strategy) {
    WatermarkGenerator<RowData> generator = strategy.createWatermarkGenerator(context);
    generator.onEvent(null, 1_000, output);
    generator.onPeriodicEmit(output);
    for (int i = 0; i < 3; i++) {
      clock.advanceTime(Duration.ofSeconds(60));
      generator.onPeriodicEmit(output);
    }
    return told;
  }

  @Test
  void aPartitionThatIsNotReadIsNotIdle() {
    WatermarkStrategy<RowData> declared =
        WatermarkStrategy.<RowData>forMonotonousTimestamps().withIdleness(Duration.ofSeconds(30));
    assertEquals(true, afterSilence(declared).contains("idle"));
    told.clear();
    assertEquals(
        List.of("999"), afterSilence(new NeverIdle(declared)).stream().distinct().toList());
  }
}
