package io.headwater.kernel.joins;

import io.headwater.kernel.replay.Ending;
import java.util.Set;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsWatermarkPushDown;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;

/**
 * {@code 'connector' = 'kafka-versions'}: a Kafka table whose watermarks are those of {@link
 * CatchUp}, whatever the table declares. All options are those of {@code kafka}.
 */
public final class VersionsSourceFactory implements DynamicTableSourceFactory {

  private static DynamicTableSourceFactory kafka() {
    return FactoryUtil.discoverFactory(
        Thread.currentThread().getContextClassLoader(), DynamicTableSourceFactory.class, "kafka");
  }

  @Override
  public String factoryIdentifier() {
    return "kafka-versions";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return kafka().requiredOptions();
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return kafka().optionalOptions();
  }

  @Override
  public DynamicTableSource createDynamicTableSource(DynamicTableFactory.Context context) {
    DynamicTableSourceFactory kafka =
        FactoryUtil.discoverFactory(
            context.getClassLoader(), DynamicTableSourceFactory.class, "kafka");
    return new VersionsSource((ScanTableSource) kafka.createDynamicTableSource(context));
  }

  private record VersionsSource(ScanTableSource kafka)
      implements ScanTableSource, SupportsWatermarkPushDown {

    @Override
    public void applyWatermark(WatermarkStrategy<RowData> declared) {
      ((SupportsWatermarkPushDown) kafka)
          .applyWatermark(context -> new CatchUp(System::currentTimeMillis));
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
      return new VersionsSource((ScanTableSource) kafka.copy());
    }

    @Override
    public String asSummaryString() {
      return "versions from " + kafka.asSummaryString();
    }
  }
}
