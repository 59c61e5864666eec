package io.headwater.kernel.kafka;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiFunction;
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
 * Flink's table of {@code 'connector' = 'kafka'} and its options, under another name. If it has an
 * end, it comes to it also after a restart ({@link Ending}).
 */
public abstract class KafkaTableFactory implements DynamicTableSourceFactory {

  private final String identifier;

  protected KafkaTableFactory(String identifier) {
    this.identifier = identifier;
  }

  /** The watermarks of the table, of those that it declares; {@code logEnd} is its reader's. */
  protected WatermarkStrategy<RowData> watermarks(
      WatermarkStrategy<RowData> declared, LogEnd logEnd) {
    return declared;
  }

  /**
   * Whether its reader goes on from the log's beginning where Kafka has deleted what comes next; if
   * not, the job fails.
   */
  protected boolean passesByWhatIsDeleted() {
    return true;
  }

  private static DynamicTableSourceFactory kafka(ClassLoader loader) {
    return FactoryUtil.discoverFactory(loader, DynamicTableSourceFactory.class, "kafka");
  }

  @Override
  public final String factoryIdentifier() {
    return identifier;
  }

  @Override
  public final Set<ConfigOption<?>> requiredOptions() {
    return kafka(Thread.currentThread().getContextClassLoader()).requiredOptions();
  }

  @Override
  public final Set<ConfigOption<?>> optionalOptions() {
    return kafka(Thread.currentThread().getContextClassLoader()).optionalOptions();
  }

  @Override
  public final DynamicTableSource createDynamicTableSource(DynamicTableFactory.Context context) {
    DynamicTableSource kafka = kafka(context.getClassLoader()).createDynamicTableSource(context);
    LogEnd logEnd = new LogEnd(context.getCatalogTable().getOptions());
    return new Table(
        identifier, (ScanTableSource) kafka, logEnd, passesByWhatIsDeleted(), this::watermarks);
  }

  private record Table(
      String identifier,
      ScanTableSource kafka,
      LogEnd logEnd,
      boolean passesByWhatIsDeleted,
      BiFunction<WatermarkStrategy<RowData>, LogEnd, WatermarkStrategy<RowData>> watermarks)
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
    public void applyWatermark(WatermarkStrategy<RowData> declared) {
      ((SupportsWatermarkPushDown) kafka).applyWatermark(watermarks.apply(declared, logEnd));
    }

    @Override
    public ChangelogMode getChangelogMode() {
      return kafka.getChangelogMode();
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
      return Ending.provider(kafka.getScanRuntimeProvider(context), logEnd, passesByWhatIsDeleted);
    }

    @Override
    public DynamicTableSource copy() {
      return new Table(
          identifier, (ScanTableSource) kafka.copy(), logEnd, passesByWhatIsDeleted, watermarks);
    }

    @Override
    public String asSummaryString() {
      return identifier + ": " + kafka.asSummaryString();
    }
  }
}
