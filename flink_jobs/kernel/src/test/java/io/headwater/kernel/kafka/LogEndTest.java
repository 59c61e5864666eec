package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
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
    LogEnd end = new LogEnd(Map.of("properties.bootstrap.servers", KafkaReaders.NOBODY));
    try (SourceReader<String, KafkaPartitionSplit> reader = KafkaReaders.reader()) {
      end.follow(reader);
      assertFalse(end.isReached());
      reader.addSplits(List.of(new KafkaPartitionSplit(ZERO, 5)));
      assertFalse(end.isReached());
      assertFalse(end.isReached());
    }
  }
}
