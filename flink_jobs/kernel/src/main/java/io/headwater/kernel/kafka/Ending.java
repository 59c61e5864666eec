package io.headwater.kernel.kafka;

import java.io.IOException;
import java.util.List;
import java.util.Optional;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.connector.kafka.source.enumerator.KafkaSourceEnumState;
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
 * each reader, unless partitions are still to be assigned. A {@link LogEnd} follows its readers.
 */
final class Ending<T, S extends SourceSplit, C> implements Source<T, S, C> {

  private static final long serialVersionUID = 1L;

  private final Source<T, S, C> source;
  private final LogEnd logEnd;

  private Ending(Source<T, S, C> source, LogEnd logEnd) {
    this.source = source;
    this.logEnd = logEnd;
  }

  /** The same provider with its source within one of these. */
  static ScanRuntimeProvider provider(ScanRuntimeProvider kafka, LogEnd logEnd) {
    DataStreamScanProvider provider = (DataStreamScanProvider) kafka;
    return new DataStreamScanProvider() {
      @Override
      public DataStream<RowData> produceDataStream(
          ProviderContext context, StreamExecutionEnvironment environment) {
        SourceTransformation<RowData, ?, ?> made =
            (SourceTransformation<RowData, ?, ?>)
                provider.produceDataStream(context, environment).getTransformation();
        DataStreamSource<RowData> stream =
            new DataStreamSource<>(
                environment,
                new Ending<>(made.getSource(), logEnd),
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

  @Override
  public SourceReader<T, S> createReader(SourceReaderContext context) throws Exception {
    SourceReader<T, S> reader = source.createReader(context);
    logEnd.follow(reader);
    return reader;
  }

  @Override
  public SplitEnumerator<S, C> createEnumerator(SplitEnumeratorContext<S> context)
      throws Exception {
    return source.createEnumerator(context);
  }

  @Override
  public SplitEnumerator<S, C> restoreEnumerator(SplitEnumeratorContext<S> context, C checkpoint)
      throws Exception {
    SplitEnumerator<S, C> restored = source.restoreEnumerator(context, checkpoint);
    boolean ends =
        source.getBoundedness() == Boundedness.BOUNDED
            && checkpoint instanceof KafkaSourceEnumState state
            && state.initialDiscoveryFinished()
            && state.unassignedInitialPartitions().isEmpty();
    return ends ? new Restored<>(restored, context) : restored;
  }

  @Override
  public SimpleVersionedSerializer<S> getSplitSerializer() {
    return source.getSplitSerializer();
  }

  @Override
  public SimpleVersionedSerializer<C> getEnumeratorCheckpointSerializer() {
    return source.getEnumeratorCheckpointSerializer();
  }

  private record Restored<S extends SourceSplit, C>(
      SplitEnumerator<S, C> kafka, SplitEnumeratorContext<S> context)
      implements SplitEnumerator<S, C> {

    @Override
    public void start() {
      kafka.start();
    }

    @Override
    public void handleSplitRequest(int subtask, String host) {
      kafka.handleSplitRequest(subtask, host);
    }

    @Override
    public void addSplitsBack(List<S> splits, int subtask) {
      kafka.addSplitsBack(splits, subtask);
    }

    /** What was given back is assigned first. */
    @Override
    public void addReader(int subtask) {
      kafka.addReader(subtask);
      context.signalNoMoreSplits(subtask);
    }

    @Override
    public C snapshotState(long checkpoint) throws Exception {
      return kafka.snapshotState(checkpoint);
    }

    @Override
    public void notifyCheckpointComplete(long checkpoint) throws Exception {
      kafka.notifyCheckpointComplete(checkpoint);
    }

    @Override
    public void handleSourceEvent(int subtask, SourceEvent event) {
      kafka.handleSourceEvent(subtask, event);
    }

    @Override
    public void close() throws IOException {
      kafka.close();
    }
  }
}
