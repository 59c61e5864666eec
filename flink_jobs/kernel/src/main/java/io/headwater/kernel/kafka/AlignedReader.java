package io.headwater.kernel.kafka;

import java.lang.reflect.Field;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.base.source.reader.SourceReaderBase;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcher;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcherManager;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcherTask;
import org.apache.flink.connector.base.source.reader.splitreader.SplitReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;

/**
 * A reader of Kafka whose partitions may come to their end while they are kept together.
 *
 * <p>Alignment asks the thread that fetches to pause a partition, or to go on with it, and that
 * thread may have let go of it meanwhile, since it was read to its end. Flink's connector 4.0 and
 * 5.0 fail the task then ("No current assignment for partition"); FLINK-39728 mends it in what
 * comes after them. Here each partition is asked for by itself, and one that is gone is passed by.
 */
final class AlignedReader<T> implements SourceReader<T, KafkaPartitionSplit> {

  private final SourceReader<T, KafkaPartitionSplit> kafka;
  private final Map<Integer, SplitFetcher<?, KafkaPartitionSplit>> fetchers;
  private final Runnable allAssigned;

  /**
   * Of a reader that Flink's Kafka source made; {@code allAssigned} is run when the enumerator says
   * that all partitions are.
   */
  AlignedReader(SourceReader<T, KafkaPartitionSplit> kafka, Runnable allAssigned) {
    this.kafka = kafka;
    this.allAssigned = allAssigned;
    this.fetchers = fetchers(kafka);
  }

  /** The threads that fetch for a reader, one at the most; Flink changes the map. */
  @SuppressWarnings("unchecked") // of a Kafka source there are no others
  private static Map<Integer, SplitFetcher<?, KafkaPartitionSplit>> fetchers(
      SourceReader<?, KafkaPartitionSplit> reader) {
    Object manager = read(SourceReaderBase.class, "splitFetcherManager", reader);
    return (Map<Integer, SplitFetcher<?, KafkaPartitionSplit>>)
        read(SplitFetcherManager.class, "fetchers", manager);
  }

  /** A field of Flink's that it shows nobody. */
  static Object read(Class<?> declaring, String name, Object from) {
    try {
      Field field = declaring.getDeclaredField(name);
      field.setAccessible(true);
      return field.get(from);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(
          "Flink's " + declaring.getSimpleName() + " is of another version: it has no " + name, e);
    }
  }

  @Override
  public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {
    for (SplitFetcher<?, KafkaPartitionSplit> fetcher : fetchers.values()) {
      fetcher.enqueueTask(new Turn(fetcher.getSplitReader(), splits(pause), splits(resume)));
      // Says nothing of its own, and wakes the thread: it may wait for partitions that are paused.
      fetcher.pauseOrResumeSplits(List.of(), List.of());
    }
  }

  /** As much of the partitions with those ids as pausing them takes. */
  private static List<KafkaPartitionSplit> splits(Collection<String> ids) {
    return ids.stream().map(AlignedReader::split).toList();
  }

  private static KafkaPartitionSplit split(String id) {
    int dash = id.lastIndexOf('-');
    int partition = Integer.parseInt(id.substring(dash + 1));
    return new KafkaPartitionSplit(new TopicPartition(id.substring(0, dash), partition), 0);
  }

  private record Turn(
      SplitReader<?, KafkaPartitionSplit> fetched,
      List<KafkaPartitionSplit> pause,
      List<KafkaPartitionSplit> resume)
      implements SplitFetcherTask {

    @Override
    public boolean run() {
      pause.forEach(split -> turn(List.of(split), List.of()));
      resume.forEach(split -> turn(List.of(), List.of(split)));
      return true;
    }

    private void turn(List<KafkaPartitionSplit> paused, List<KafkaPartitionSplit> resumed) {
      try {
        fetched.pauseOrResumeSplits(paused, resumed);
      } catch (IllegalStateException gone) {
        // It was read to its end before this turn came.
      }
    }

    @Override
    public void wakeUp() {}
  }

  @Override
  public void start() {
    kafka.start();
  }

  @Override
  public InputStatus pollNext(ReaderOutput<T> output) throws Exception {
    try {
      return kafka.pollNext(output);
    } catch (RuntimeException e) {
      throw Deleted.within(e).<RuntimeException>map(told -> told).orElse(e);
    }
  }

  @Override
  public List<KafkaPartitionSplit> snapshotState(long checkpoint) {
    return kafka.snapshotState(checkpoint);
  }

  @Override
  public CompletableFuture<Void> isAvailable() {
    return kafka.isAvailable();
  }

  @Override
  public void addSplits(List<KafkaPartitionSplit> splits) {
    kafka.addSplits(splits);
  }

  @Override
  public void notifyNoMoreSplits() {
    kafka.notifyNoMoreSplits();
  }

  @Override
  public void handleSourceEvents(SourceEvent event) {
    if (Ending.isAssigned(event)) {
      allAssigned.run();
    } else {
      kafka.handleSourceEvents(event);
    }
  }

  @Override
  public void notifyCheckpointComplete(long checkpoint) throws Exception {
    kafka.notifyCheckpointComplete(checkpoint);
  }

  @Override
  public void notifyCheckpointAborted(long checkpoint) throws Exception {
    kafka.notifyCheckpointAborted(checkpoint);
  }

  @Override
  public void close() throws Exception {
    kafka.close();
  }
}
