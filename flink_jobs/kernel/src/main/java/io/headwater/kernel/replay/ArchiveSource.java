package io.headwater.kernel.replay;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import javax.annotation.Nullable;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.connector.source.SplitsAssignment;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.logical.RowType;
import org.apache.iceberg.flink.TableLoader;

/**
 * Reads a table of archived records as Kafka would give them: each partition in the order of its
 * offsets, with a watermark of its own.
 *
 * <p>An end of input would be a watermark past all there can be. Where the log is followed after
 * the archive, this source does not end: it is idle, and the log's watermark counts alone.
 */
final class ArchiveSource implements Source<RowData, ArchiveSplit, List<ArchiveSplit>> {

  private static final long serialVersionUID = 1L;

  private final TableLoader table;
  private final long snapshot;
  private final ArrayList<ArchiveSplit> splits;
  private final RowType columns;
  private final boolean follow;
  @Nullable private final Pace pace;

  /**
   * {@code splits} are the ranges to read; {@code pace} is null for as fast as it goes. With {@code
   * follow} it never ends.
   */
  ArchiveSource(
      TableLoader table,
      long snapshot,
      List<ArchiveSplit> splits,
      RowType columns,
      boolean follow,
      @Nullable Pace pace) {
    this.table = table;
    this.snapshot = snapshot;
    this.columns = columns;
    this.follow = follow;
    this.pace = pace;
    this.splits = new ArrayList<>(splits);
  }

  @Override
  public Boundedness getBoundedness() {
    return follow ? Boundedness.CONTINUOUS_UNBOUNDED : Boundedness.BOUNDED;
  }

  @Override
  public SourceReader<RowData, ArchiveSplit> createReader(SourceReaderContext context) {
    return new ArchiveReader(context, table.clone(), snapshot, columns, follow, pace);
  }

  @Override
  public SplitEnumerator<ArchiveSplit, List<ArchiveSplit>> createEnumerator(
      SplitEnumeratorContext<ArchiveSplit> context) {
    return new Enumerator(context, splits);
  }

  @Override
  public SplitEnumerator<ArchiveSplit, List<ArchiveSplit>> restoreEnumerator(
      SplitEnumeratorContext<ArchiveSplit> context, List<ArchiveSplit> unassigned) {
    return new Enumerator(context, unassigned);
  }

  @Override
  public SimpleVersionedSerializer<ArchiveSplit> getSplitSerializer() {
    return new ArchiveSplit.Serializer();
  }

  @Override
  public SimpleVersionedSerializer<List<ArchiveSplit>> getEnumeratorCheckpointSerializer() {
    return new ListSerializer();
  }

  /** Gives each reader the partitions that fall to it, at once. */
  private static final class Enumerator
      implements SplitEnumerator<ArchiveSplit, List<ArchiveSplit>> {

    private final SplitEnumeratorContext<ArchiveSplit> context;
    private final List<ArchiveSplit> unassigned;

    Enumerator(SplitEnumeratorContext<ArchiveSplit> context, List<ArchiveSplit> unassigned) {
      this.context = context;
      this.unassigned = new ArrayList<>(unassigned);
    }

    @Override
    public void start() {}

    @Override
    public void handleSplitRequest(int subtask, @Nullable String host) {}

    @Override
    public void addSplitsBack(List<ArchiveSplit> splits, int subtask) {
      unassigned.addAll(splits);
    }

    @Override
    public void addReader(int subtask) {
      List<ArchiveSplit> its = new ArrayList<>();
      for (ArchiveSplit split : unassigned) {
        if (split.partition() % context.currentParallelism() == subtask) {
          its.add(split);
        }
      }
      unassigned.removeAll(its);
      if (!its.isEmpty()) {
        context.assignSplits(new SplitsAssignment<>(Map.of(subtask, its)));
      }
      context.signalNoMoreSplits(subtask);
    }

    @Override
    public List<ArchiveSplit> snapshotState(long checkpoint) {
      return List.copyOf(unassigned);
    }

    @Override
    public void close() {}
  }

  /** One split after the other. */
  private static final class ListSerializer
      implements SimpleVersionedSerializer<List<ArchiveSplit>> {

    private static final int SIZE = 20;

    @Override
    public int getVersion() {
      return 1;
    }

    @Override
    public byte[] serialize(List<ArchiveSplit> splits) {
      ByteBuffer buffer = ByteBuffer.allocate(SIZE * splits.size());
      splits.forEach(split -> buffer.put(new ArchiveSplit.Serializer().serialize(split)));
      return buffer.array();
    }

    @Override
    public List<ArchiveSplit> deserialize(int version, byte[] bytes) throws IOException {
      List<ArchiveSplit> splits = new ArrayList<>();
      ByteBuffer buffer = ByteBuffer.wrap(bytes);
      while (buffer.hasRemaining()) {
        byte[] one = new byte[SIZE];
        buffer.get(one);
        splits.add(new ArchiveSplit.Serializer().deserialize(version, one));
      }
      return splits;
    }
  }
}
