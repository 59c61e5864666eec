package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertEquals;
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

  private static long left(long zero, long one) {
    List<KafkaPartitionSplit> splits =
        List.of(new KafkaPartitionSplit(ZERO, zero), new KafkaPartitionSplit(ONE, one));
    return LogEnd.left(splits, BEGINS, ENDS);
  }

  @Test
  void itIsReachedWhenEachPartitionIsAtItsEnd() {
    assertEquals(1, left(9, 0));
    assertEquals(0, left(10, 0));
    assertEquals(0, left(12, 3));
  }

  @Test
  void aPartitionThatIsNotBegunIsAtItsBeginning() {
    long begin = KafkaPartitionSplit.EARLIEST_OFFSET;
    assertEquals(5, left(begin, begin));
    assertEquals(0, left(10, begin));
  }

  @Test
  void whatKafkaHasDeletedIsNotToCome() {
    assertEquals(5, left(2, 0));
    Map<TopicPartition, Long> emptied = Map.of(ZERO, 5000L);
    assertEquals(0, LogEnd.left(List.of(new KafkaPartitionSplit(ZERO, 1000)), emptied, emptied));
  }

  @Test
  void whereItStandsInItsGroupIsNotKnown() {
    assertTrue(left(10, KafkaPartitionSplit.COMMITTED_OFFSET) > 0);
  }

  @Test
  void nobodyIsAskedBeforeThereIsAReader() {
    assertEquals(LogEnd.UNTOLD, new LogEnd(Map.of("topic", "planes")).left());
  }

  @Test
  void aReaderMayGetItsPartitionsAfterItWasAsked() throws Exception {
    LogEnd end = new LogEnd(Map.of("properties.bootstrap.servers", KafkaReaders.NOBODY));
    try (SourceReader<String, KafkaPartitionSplit> reader = KafkaReaders.reader()) {
      end.follow(reader, () -> {});
      assertEquals(LogEnd.UNTOLD, end.left());
      reader.addSplits(List.of(new KafkaPartitionSplit(ZERO, 5)));
      assertEquals(LogEnd.UNTOLD, end.left());
      assertEquals(LogEnd.UNTOLD, end.left());
    }
  }
}
