package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Proxy;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.metrics.groups.InternalSourceReaderMetricGroup;
import org.apache.flink.runtime.metrics.groups.UnregisteredMetricGroups;
import org.apache.flink.util.SimpleUserCodeClassLoader;
import org.junit.jupiter.api.Test;

class LogEndTest {

  private static final TopicPartition ZERO = new TopicPartition("planes", 0);
  private static final TopicPartition ONE = new TopicPartition("planes", 1);
  private static final Map<TopicPartition, Long> BEGINS = Map.of(ZERO, 5L, ONE, 0L);
  private static final Map<TopicPartition, Long> ENDS = Map.of(ZERO, 10L, ONE, 0L);

  private static boolean isReached(long zero, long one) {
    List<KafkaPartitionSplit> splits =
        List.of(new KafkaPartitionSplit(ZERO, zero), new KafkaPartitionSplit(ONE, one));
    return LogEnd.isReached(splits, BEGINS, ENDS);
  }

  @Test
  void itIsReachedWhenEachPartitionIsAtItsEnd() {
    assertFalse(isReached(9, 0));
    assertTrue(isReached(10, 0));
    assertTrue(isReached(12, 3));
  }

  @Test
  void aPartitionThatIsNotBegunIsAtItsBeginning() {
    long begin = KafkaPartitionSplit.EARLIEST_OFFSET;
    assertFalse(isReached(begin, begin));
    assertTrue(isReached(10, begin));
  }

  @Test
  void whereItStandsInItsGroupIsNotKnown() {
    assertFalse(isReached(10, KafkaPartitionSplit.COMMITTED_OFFSET));
  }

  @Test
  void nobodyIsAskedBeforeThereIsAReader() {
    assertFalse(new LogEnd(Map.of("topic", "planes")).isReached());
  }

  @Test
  void aReaderMayGetItsPartitionsAfterItWasAsked() throws Exception {
    String nobody = "127.0.0.1:1";
    KafkaSource<String> source =
        KafkaSource.<String>builder()
            .setBootstrapServers(nobody)
            .setTopics("planes")
            .setGroupId("headwater")
            .setValueOnlyDeserializer(new SimpleStringSchema())
            .build();
    LogEnd end = new LogEnd(Map.of("properties.bootstrap.servers", nobody));
    try (SourceReader<String, KafkaPartitionSplit> reader = source.createReader(context())) {
      end.follow(reader);
      assertFalse(end.isReached());
      reader.addSplits(List.of(new KafkaPartitionSplit(ZERO, 5)));
      assertFalse(end.isReached());
      assertFalse(end.isReached());
    }
  }

  private static SourceReaderContext context() {
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
                      SimpleUserCodeClassLoader.create(LogEndTest.class.getClassLoader());
                  case "getIndexOfSubtask" -> 0;
                  default -> null;
                });
  }
}
