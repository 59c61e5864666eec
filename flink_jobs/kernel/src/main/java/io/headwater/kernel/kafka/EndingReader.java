package io.headwater.kernel.kafka;

import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;

/** A reader of {@link Ending}: it says what is deleted, and hears that all is assigned. */
final class EndingReader<T> implements SourceReader<T, KafkaPartitionSplit> {

  private final SourceReader<T, KafkaPartitionSplit> kafka;
  private final Runnable allAssigned;

  /**
   * Of a reader that Flink's Kafka source made; {@code allAssigned} is run when the enumerator says
   * that all partitions are.
   */
  EndingReader(SourceReader<T, KafkaPartitionSplit> kafka, Runnable allAssigned) {
    this.kafka = kafka;
    this.allAssigned = allAssigned;
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
  public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {
    kafka.pauseOrResumeSplits(pause, resume);
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
