package io.headwater.kernel.joins;

import io.headwater.kernel.kafka.KafkaTableFactory;
import io.headwater.kernel.kafka.LogEnd;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.table.data.RowData;

/**
 * {@code 'connector' = 'kafka-versions'}: a Kafka table whose watermarks are those of {@link
 * CatchUp}, whatever the table declares. All options are those of {@code kafka}.
 */
public final class VersionsSourceFactory extends KafkaTableFactory {

  /** Called by Flink. */
  public VersionsSourceFactory() {
    super("kafka-versions");
  }

  @Override
  protected WatermarkStrategy<RowData> watermarks(
      WatermarkStrategy<RowData> declared, LogEnd logEnd) {
    return context ->
        new CatchUp(
            System::currentTimeMillis,
            context.getInputActivityClock()::relativeTimeMillis,
            logEnd::left);
  }
}
