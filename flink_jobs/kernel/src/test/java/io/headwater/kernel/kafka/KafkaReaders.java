package io.headwater.kernel.kafka;

import java.lang.reflect.Proxy;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.metrics.groups.InternalSourceReaderMetricGroup;
import org.apache.flink.runtime.metrics.groups.UnregisteredMetricGroups;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.transformations.SourceTransformation;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.SimpleUserCodeClassLoader;

/** Flink's own readers of Kafka, where there is none. */
final class KafkaReaders {

  static final String NOBODY = "127.0.0.1:1";

  private KafkaReaders() {}

  static SourceReader<String, KafkaPartitionSplit> reader() throws Exception {
    return source().createReader(context());
  }

  static KafkaSource<String> source() {
    return KafkaSource.<String>builder()
        .setBootstrapServers(NOBODY)
        .setTopics("planes")
        .setGroupId("headwater")
        .setStartingOffsets(OffsetsInitializer.offsets(Map.of()))
        .setValueOnlyDeserializer(new SimpleStringSchema())
        .build();
  }

  /** What Flink's connector gives for a table that is read by that source. */
  @SuppressWarnings({"unchecked", "rawtypes"}) // what it reads does not matter
  static DataStreamScanProvider table(KafkaSource source) {
    return new DataStreamScanProvider() {
      @Override
      public DataStream<RowData> produceDataStream(
          ProviderContext context, StreamExecutionEnvironment environment) {
        return environment.fromSource(
            source, WatermarkStrategy.noWatermarks(), "planes", TypeInformation.of(RowData.class));
      }

      @Override
      public boolean isBounded() {
        return false;
      }
    };
  }

  /** What a table is read by in place of that source. */
  static Ending ending(KafkaSource<?> source, LogEnd logEnd, boolean passesByWhatIsDeleted) {
    DataStreamScanProvider made =
        (DataStreamScanProvider) Ending.provider(table(source), logEnd, passesByWhatIsDeleted);
    DataStream<RowData> stream =
        made.produceDataStream(null, StreamExecutionEnvironment.getExecutionEnvironment());
    return (Ending) ((SourceTransformation<?, ?, ?>) stream.getTransformation()).getSource();
  }

  static SourceReaderContext context() {
    MetricGroup metrics = UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup();
    return (SourceReaderContext)
        Proxy.newProxyInstance(
            SourceReaderContext.class.getClassLoader(),
            new Class<?>[] {SourceReaderContext.class},
            (proxy, method, arguments) ->
                switch (method.getName()) {
                  case "metricGroup" -> InternalSourceReaderMetricGroup.mock(metrics);
                  case "getConfiguration" -> new Configuration();
                  case "getUserCodeClassLoader" ->
                      SimpleUserCodeClassLoader.create(KafkaReaders.class.getClassLoader());
                  case "getIndexOfSubtask" -> 0;
                  default -> null;
                });
  }
}
