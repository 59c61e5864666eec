package io.headwater.kernel.kafka;

import java.lang.reflect.Proxy;
import java.util.Map;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.metrics.groups.InternalSourceReaderMetricGroup;
import org.apache.flink.runtime.metrics.groups.UnregisteredMetricGroups;
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
