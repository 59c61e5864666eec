package io.headwater.kernel.replay;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsReadingMetadata;
import org.apache.flink.table.connector.source.abilities.SupportsWatermarkPushDown;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;

/**
 * {@code 'connector' = 'kafka-replay'}: a Kafka table with an end, which it comes to also after a
 * restart ({@link Ending}). All options are those of {@code kafka}.
 */
public final class KafkaReplayFactory implements DynamicTableSourceFactory {

  private static DynamicTableSourceFactory kafka(ClassLoader loader) {
    return FactoryUtil.discoverFactory(loader, DynamicTableSourceFactory.class, "kafka");
  }

  @Override
  public String factoryIdentifier() {
    return "kafka-replay";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return kafka(Thread.currentThread().getContextClassLoader()).requiredOptions();
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return kafka(Thread.currentThread().getContextClassLoader()).optionalOptions();
  }

  @Override
  public DynamicTableSource createDynamicTableSource(DynamicTableFactory.Context context) {
    return new ReplaySource(
        (ScanTableSource) kafka(context.getClassLoader()).createDynamicTableSource(context));
  }

  private record ReplaySource(ScanTableSource kafka)
      implements ScanTableSource, SupportsReadingMetadata, SupportsWatermarkPushDown {

    private SupportsReadingMetadata metadata() {
      return (SupportsReadingMetadata) kafka;
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
      return metadata().listReadableMetadata();
    }

    @Override
    public void applyReadableMetadata(List<String> keys, DataType produced) {
      metadata().applyReadableMetadata(keys, produced);
    }

    @Override
    public boolean supportsMetadataProjection() {
      return metadata().supportsMetadataProjection();
    }

    @Override
    public void applyWatermark(WatermarkStrategy<RowData> strategy) {
      ((SupportsWatermarkPushDown) kafka).applyWatermark(strategy);
    }

    @Override
    public ChangelogMode getChangelogMode() {
      return kafka.getChangelogMode();
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
      return Ending.provider(kafka.getScanRuntimeProvider(context));
    }

    @Override
    public DynamicTableSource copy() {
      return new ReplaySource((ScanTableSource) kafka.copy());
    }

    @Override
    public String asSummaryString() {
      return "replay of " + kafka.asSummaryString();
    }
  }
}
