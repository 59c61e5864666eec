package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.function.Supplier;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.connector.base.source.reader.SourceReaderBase;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcher;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcherManager;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.metrics.KafkaSourceReaderMetrics;
import org.apache.flink.connector.kafka.source.reader.KafkaPartitionSplitReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetCommitCallback;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.internals.SubscriptionState;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.WakeupException;
import org.junit.jupiter.api.Test;

class SteadyFetcherTest {

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
    try (Followed followed = new Followed(ZERO, ONE)) {
      followed.letGoOfAllBut(ZERO);
      followed.reader.pauseOrResumeSplits(List.of("jfk-planes-1", "jfk-planes-0"), List.of());
      followed.awaitPaused(Set.of(ZERO));
      followed.reader.pauseOrResumeSplits(List.of(), List.of("jfk-planes-1", "jfk-planes-0"));
      followed.awaitPaused(Set.of());
      assertEquals(InputStatus.NOTHING_AVAILABLE, followed.reader.pollNext(null));
    }
  }

  @Test
  void offsetsAreCommittedAlsoWhereAWakeUpCameLate() throws Exception {
    SourceReaderContext context = KafkaReaders.context();
    KafkaSourceReaderMetrics metrics = new KafkaSourceReaderMetrics(context.metricGroup());
    Properties client = (Properties) Hidden.read(KafkaSource.class, "props", KafkaReaders.source());
    SteadyFetcher fetcher = new SteadyFetcher(client, context, metrics, null);
    ((KafkaConsumer<?, ?>) Hidden.read(KafkaPartitionSplitReader.class, "consumer", fetcher))
        .close(Duration.ZERO);
    WokenLate consumer = new WokenLate(client);
    Hidden.write(KafkaPartitionSplitReader.class, "consumer", fetcher, consumer);
    Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(ZERO, new OffsetAndMetadata(7));
    fetcher.notifyCheckpointComplete(offsets, (told, failure) -> {});
    assertEquals(List.of(offsets), consumer.committed);
    consumer.close(Duration.ZERO);
  }

  /** A consumer that was woken when nothing slept: it says so to the next call, and forgets it. */
  private static final class WokenLate extends KafkaConsumer<byte[], byte[]> {

    final List<Map<TopicPartition, OffsetAndMetadata>> committed = new ArrayList<>();
    private boolean woken = true;

    WokenLate(Properties client) {
      super(client);
    }

    @Override
    public void commitAsync(
        Map<TopicPartition, OffsetAndMetadata> offsets, OffsetCommitCallback callback) {
      if (woken) {
        woken = false;
        throw new WakeupException();
      }
      committed.add(offsets);
    }
  }

  /** A reader of partitions, and what its consumer has paused. */
  private static final class Followed implements AutoCloseable {

    final SourceReader<String, KafkaPartitionSplit> reader;
    private final SubscriptionState consumer;

    Followed(TopicPartition... partitions) throws Exception {
      KafkaSource<String> source = KafkaReaders.source();
      SourceReaderContext context = KafkaReaders.context();
      reader = source.createReader(context);
      SteadyFetcher.fetchFor(reader, source, context);
      reader.start();
      reader.addSplits(
          List.of(partitions).stream().map(p -> new KafkaPartitionSplit(p, 5)).toList());
      Object manager = Hidden.read(SourceReaderBase.class, "splitFetcherManager", reader);
      Map<?, ?> fetchers = (Map<?, ?>) Hidden.read(SplitFetcherManager.class, "fetchers", manager);
      Object fetched = ((SplitFetcher<?, ?>) fetchers.get(0)).getSplitReader();
      // The consumer itself answers its own thread alone.
      Object client = Hidden.read(KafkaPartitionSplitReader.class, "consumer", fetched);
      Object delegate = Hidden.read(KafkaConsumer.class, "delegate", client);
      consumer = (SubscriptionState) Hidden.read(delegate.getClass(), "subscriptions", delegate);
      await(Set.of(partitions), consumer::assignedPartitions);
    }

    /** As the thread that fetches does when it has read the others to their end. */
    void letGoOfAllBut(TopicPartition partition) {
      consumer.assignFromUser(Set.of(partition));
    }

    void awaitPaused(Set<TopicPartition> expected) throws Exception {
      await(expected, consumer::pausedPartitions);
    }

    /** Waits as long as a test may take: nobody tells when the other thread has come to it. */
    private void await(Set<TopicPartition> expected, Supplier<Set<TopicPartition>> asked)
        throws Exception {
      long deadline = System.nanoTime() + 30_000_000_000L;
      while (!asked.get().equals(expected) && System.nanoTime() < deadline) {
        assertEquals(InputStatus.NOTHING_AVAILABLE, reader.pollNext(null));
        Thread.sleep(5);
      }
      assertEquals(expected, asked.get());
    }

    @Override
    public void close() throws Exception {
      reader.close();
    }
  }
}
