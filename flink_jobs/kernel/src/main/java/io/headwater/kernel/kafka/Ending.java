package io.headwater.kernel.kafka;

import java.io.IOException;
import java.util.List;
import java.util.Optional;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.connector.kafka.source.enumerator.KafkaSourceEnumState;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSource;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.transformations.SourceTransformation;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.ScanTableSource.ScanRuntimeProvider;
import org.apache.flink.table.data.RowData;

/**
 * A Kafka source that comes to its end also when it goes on from a savepoint or checkpoint.
 *
 * <p>The enumerator of Flink's connector 4.0 tells readers that nothing more will come when it has
 * found partitions that are new to it. One that is restored knows all of them, finds none, and says
 * nothing: its readers finish their partitions and then wait for ever. Here it says so for it, to
 * each reader, unless partitions are still to be assigned. A {@link LogEnd} follows its readers,
 * and they fetch by {@link SteadyFetcher}s. One that has no partition is told, when it asks, that
 * all are assigned: it would not know otherwise that none is to come.
 */
final class Ending implements Source<RowData, KafkaPartitionSplit, KafkaSourceEnumState> {

  private static final long serialVersionUID = 1L;

  private final Source<RowData, KafkaPartitionSplit, KafkaSourceEnumState> source;
  private final LogEnd logEnd;

  private Ending(Source<RowData, KafkaPartitionSplit, KafkaSourceEnumState> source, LogEnd logEnd) {
    this.source = source;
    this.logEnd = logEnd;
  }

  /** The same provider with its source within one of these. */
  static ScanRuntimeProvider provider(
      ScanRuntimeProvider kafka, LogEnd logEnd, boolean passesByWhatIsDeleted) {
    DataStreamScanProvider provider = (DataStreamScanProvider) kafka;
    return new DataStreamScanProvider() {
      @Override
      @SuppressWarnings("unchecked") // it is a Kafka source
      public DataStream<RowData> produceDataStream(
          ProviderContext context, StreamExecutionEnvironment environment) {
        SourceTransformation<RowData, KafkaPartitionSplit, KafkaSourceEnumState> made =
            (SourceTransformation<RowData, KafkaPartitionSplit, KafkaSourceEnumState>)
                provider.produceDataStream(context, environment).getTransformation();
        if (!passesByWhatIsDeleted) {
          Deleted.failReadersOf(made.getSource());
        }
        DataStreamSource<RowData> stream =
            new DataStreamSource<>(
                environment,
                new Ending(made.getSource(), logEnd),
                made.getWatermarkStrategy(),
                made.getOutputType(),
                made.getName());
        if (made.getUid() != null) {
          stream.uid(made.getUid());
        }
        return stream;
      }

      @Override
      public boolean isBounded() {
        return provider.isBounded();
      }

      @Override
      public Optional<Integer> getParallelism() {
        return provider.getParallelism();
      }
    };
  }

  @Override
  public Boundedness getBoundedness() {
    return source.getBoundedness();
  }

  /** Whether {@code event} tells a reader that all partitions are assigned. */
  static boolean isAssigned(SourceEvent event) {
    return event == Assignment.DONE;
  }

  @Override
  public SourceReader<RowData, KafkaPartitionSplit> createReader(SourceReaderContext context)
      throws Exception {
    SourceReader<RowData, KafkaPartitionSplit> reader = source.createReader(context);
    logEnd.follow(reader, () -> context.sendSourceEventToCoordinator(Assignment.ASKED_FOR));
    SteadyFetcher.fetchFor(reader, source, context);
    return new EndingReader<>(reader, logEnd::allAssigned);
  }

  @Override
  public SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> createEnumerator(
      SplitEnumeratorContext<KafkaPartitionSplit> context) throws Exception {
    return new Enumerator(source.createEnumerator(context), context, false);
  }

  @Override
  public SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> restoreEnumerator(
      SplitEnumeratorContext<KafkaPartitionSplit> context, KafkaSourceEnumState checkpoint)
      throws Exception {
    SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> restored =
        source.restoreEnumerator(context, checkpoint);
    boolean ends = source.getBoundedness() == Boundedness.BOUNDED && Assignment.isDone(checkpoint);
    return new Enumerator(restored, context, ends);
  }

  @Override
  public SimpleVersionedSerializer<KafkaPartitionSplit> getSplitSerializer() {
    return source.getSplitSerializer();
  }

  @Override
  public SimpleVersionedSerializer<KafkaSourceEnumState> getEnumeratorCheckpointSerializer() {
    return source.getEnumeratorCheckpointSerializer();
  }

  /** What a reader and the enumerator say to each other of partitions. */
  private enum Assignment implements SourceEvent {
    ASKED_FOR,
    DONE;

    static boolean isDone(KafkaSourceEnumState state) {
      return state.initialDiscoveryFinished() && state.unassignedInitialPartitions().isEmpty();
    }
  }

  /** Says to each reader that nothing more will come, if it {@code ends}. */
  private record Enumerator(
      SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> kafka,
      SplitEnumeratorContext<KafkaPartitionSplit> context,
      boolean ends)
      implements SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> {

    @Override
    public void start() {
      kafka.start();
    }

    @Override
    public void handleSplitRequest(int subtask, String host) {
      kafka.handleSplitRequest(subtask, host);
    }

    @Override
    public void addSplitsBack(List<KafkaPartitionSplit> splits, int subtask) {
      kafka.addSplitsBack(splits, subtask);
    }

    /** What was given back is assigned first. */
    @Override
    public void addReader(int subtask) {
      kafka.addReader(subtask);
      if (ends) {
        context.signalNoMoreSplits(subtask);
      }
    }

    @Override
    public KafkaSourceEnumState snapshotState(long checkpoint) throws Exception {
      return kafka.snapshotState(checkpoint);
    }

    @Override
    public void notifyCheckpointComplete(long checkpoint) throws Exception {
      kafka.notifyCheckpointComplete(checkpoint);
    }

    /** What it answers comes to a reader after the partitions that it was assigned. */
    @Override
    public void handleSourceEvent(int subtask, SourceEvent event) {
      if (event != Assignment.ASKED_FOR) {
        kafka.handleSourceEvent(subtask, event);
      } else if (Assignment.isDone(state())) {
        context.sendEventToSourceReader(subtask, Assignment.DONE);
      }
    }

    private KafkaSourceEnumState state() {
      try {
        return kafka.snapshotState(-1); // of no checkpoint
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }

    @Override
    public void close() throws IOException {
      kafka.close();
    }
  }
}
