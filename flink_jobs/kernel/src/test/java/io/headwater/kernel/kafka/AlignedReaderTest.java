package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.reflect.Field;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.base.source.reader.SourceReaderBase;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcher;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcherManager;
import org.apache.flink.connector.base.source.reader.splitreader.SplitReader;
import org.apache.flink.connector.kafka.source.reader.KafkaPartitionSplitReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.internals.SubscriptionState;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;

class AlignedReaderTest {

  private static final TopicPartition ZERO = new TopicPartition("jfk-planes", 0);
  private static final TopicPartition ONE = new TopicPartition("jfk-planes", 1);

  @Test
  void aPartitionIsPausedAndGoesOn() throws Exception {
    try (Followed followed = new Followed(ZERO, ONE)) {
      followed.reader.pauseOrResumeSplits(List.of("jfk-planes-1"), List.of());
      followed.awaitPaused(Set.of(ONE));
      followed.reader.pauseOrResumeSplits(List.of("jfk-planes-0"), List.of("jfk-planes-1"));
      followed.awaitPaused(Set.of(ZERO));
    }
  }

  @Test
  void aPartitionThatWasLetGoOfIsPassedBy() throws Exception {
    try (Followed followed = new Followed(ZERO)) {
      followed.reader.pauseOrResumeSplits(
          List.of("jfk-planes-1", "jfk-planes-0"), List.of("jfk-planes-2"));
      followed.awaitPaused(Set.of(ZERO));
      followed.reader.pauseOrResumeSplits(List.of(), List.of("jfk-planes-1", "jfk-planes-0"));
      followed.awaitPaused(Set.of());
      assertEquals(InputStatus.NOTHING_AVAILABLE, followed.reader.pollNext(null));
    }
  }

  /** A reader of partitions, and what its consumer has paused. */
  private static final class Followed implements AutoCloseable {

    final SourceReader<String, KafkaPartitionSplit> reader;
    private final SubscriptionState consumer;

    Followed(TopicPartition... partitions) throws Exception {
      SourceReader<String, KafkaPartitionSplit> kafka = KafkaReaders.reader();
      reader = new AlignedReader<>(kafka, () -> {});
      reader.start();
      reader.addSplits(
          List.of(partitions).stream().map(p -> new KafkaPartitionSplit(p, 5)).toList());
      Object manager = field(SourceReaderBase.class, "splitFetcherManager", kafka);
      Map<?, ?> fetchers = (Map<?, ?>) field(SplitFetcherManager.class, "fetchers", manager);
      SplitReader<?, ?> fetched = ((SplitFetcher<?, ?>) fetchers.get(0)).getSplitReader();
      // The consumer itself answers its own thread alone.
      Object client = field(KafkaPartitionSplitReader.class, "consumer", fetched);
      Object delegate = field(KafkaConsumer.class, "delegate", client);
      consumer = (SubscriptionState) field(delegate.getClass(), "subscriptions", delegate);
    }

    /** Waits as long as a test may take: nobody tells when the other thread has come to it. */
    void awaitPaused(Set<TopicPartition> expected) throws Exception {
      long deadline = System.nanoTime() + 30_000_000_000L;
      while (!consumer.pausedPartitions().equals(expected) && System.nanoTime() < deadline) {
        assertEquals(InputStatus.NOTHING_AVAILABLE, reader.pollNext(null));
        Thread.sleep(5);
      }
      assertEquals(expected, consumer.pausedPartitions());
    }

    private static Object field(Class<?> declaring, String name, Object from) throws Exception {
      Field field = declaring.getDeclaredField(name);
      field.setAccessible(true);
      return field.get(from);
    }

    @Override
    public void close() throws Exception {
      reader.close();
    }
  }
}
