package io.headwater.kernel.joins;

import io.headwater.kernel.kafka.KafkaTableFactory;
import io.headwater.kernel.kafka.LogEnd;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.table.data.RowData;

/**
 * {@code 'connector' = 'kafka-versions'}: a Kafka table whose watermarks are those of {@link
 * CatchUp}, whatever the table declares. All options are those of {@code kafka}.
 */
public class VersionsSourceFactory extends KafkaTableFactory {

  private final boolean passesByWhatIsDeleted;

  /** Called by Flink. */
  public VersionsSourceFactory() {
    this("kafka-versions", true);
  }

  VersionsSourceFactory(String identifier, boolean passesByWhatIsDeleted) {
    super(identifier);
    this.passesByWhatIsDeleted = passesByWhatIsDeleted;
  }

  @Override
  protected final boolean passesByWhatIsDeleted() {
    return passesByWhatIsDeleted;
  }

  @Override
  protected final WatermarkStrategy<RowData> watermarks(
      WatermarkStrategy<RowData> declared, LogEnd logEnd) {
    return context ->
        new CatchUp(
            System::currentTimeMillis,
            context.getInputActivityClock()::relativeTimeMillis,
            logEnd::left);
  }
}
