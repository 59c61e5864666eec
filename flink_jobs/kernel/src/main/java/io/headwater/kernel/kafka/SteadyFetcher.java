package io.headwater.kernel.kafka;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.function.Supplier;
import javax.annotation.Nullable;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.connector.base.source.reader.SourceReaderBase;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcherManager;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.metrics.KafkaSourceReaderMetrics;
import org.apache.flink.connector.kafka.source.reader.KafkaPartitionSplitReader;
import org.apache.flink.connector.kafka.source.reader.KafkaSourceReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetCommitCallback;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.WakeupException;

/**
 * What fetches for a reader of Kafka, without two failures of Flink's connectors 4.0 and 5.0, each
 * of which has the job begin again from its checkpoint, or fail if that is to be its last.
 *
 * <p>Alignment asks the thread that fetches to pause a partition, or to go on with it, and that
 * thread may have let go of it meanwhile, since it was read to its end ("No current assignment for
 * partition"; FLINK-39728 mends it in what comes after them). Here each partition is asked for by
 * itself, and one that is gone is passed by.
 *
 * <p>Whoever wants something of that thread wakes it from its poll. Where it has left the poll by
 * itself, the next call of its consumer fails instead. That may be the one which commits offsets
 * after a checkpoint, as long as Kafka has not told who coordinates the group: on a new Kafka the
 * first to ask waits until that is decided (what KAFKA-14208 has left). Here it is called again.
 */
final class SteadyFetcher extends KafkaPartitionSplitReader {

  SteadyFetcher(
      Properties client,
      SourceReaderContext context,
      KafkaSourceReaderMetrics metrics,
      @Nullable String rack) {
    super(client, context, metrics, rack);
  }

  /** Has a reader that {@code source} made fetch by these, from its first partition on. */
  static void fetchFor(
      SourceReader<?, ?> reader, Source<?, ?, ?> source, SourceReaderContext context) {
    Properties client = (Properties) Hidden.read(KafkaSource.class, "props", source);
    Supplier<?> rack = (Supplier<?>) Hidden.read(KafkaSource.class, "rackIdSupplier", source);
    KafkaSourceReaderMetrics metrics =
        (KafkaSourceReaderMetrics)
            Hidden.read(KafkaSourceReader.class, "kafkaSourceReaderMetrics", reader);
    Supplier<SteadyFetcher> fetchers =
        () ->
            new SteadyFetcher(client, context, metrics, rack == null ? null : (String) rack.get());
    Hidden.write(
        SplitFetcherManager.class,
        "splitReaderFactory",
        Hidden.read(SourceReaderBase.class, "splitFetcherManager", reader),
        fetchers);
  }

  @Override
  public void pauseOrResumeSplits(
      Collection<KafkaPartitionSplit> pause, Collection<KafkaPartitionSplit> resume) {
    pause.forEach(split -> turn(List.of(split), List.of()));
    resume.forEach(split -> turn(List.of(), List.of(split)));
  }

  private void turn(List<KafkaPartitionSplit> paused, List<KafkaPartitionSplit> resumed) {
    try {
      super.pauseOrResumeSplits(paused, resumed);
    } catch (IllegalStateException gone) {
      // It was read to its end before this turn came.
    }
  }

  @Override
  public void notifyCheckpointComplete(
      Map<TopicPartition, OffsetAndMetadata> offsets, OffsetCommitCallback committed) {
    try {
      super.notifyCheckpointComplete(offsets, committed);
    } catch (WakeupException late) {
      super.notifyCheckpointComplete(offsets, committed);
    }
  }
}
