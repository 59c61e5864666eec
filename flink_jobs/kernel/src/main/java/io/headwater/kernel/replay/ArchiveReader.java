package io.headwater.kernel.replay;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import javax.annotation.Nullable;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.RowType;
import org.apache.iceberg.Schema;
import org.apache.iceberg.Table;
import org.apache.iceberg.flink.FlinkSchemaUtil;
import org.apache.iceberg.flink.TableLoader;
import org.apache.iceberg.types.Types;

/**
 * Reads its partitions side by side, always on from the one that is furthest behind in event time:
 * none runs ahead and fills the state.
 */
final class ArchiveReader implements SourceReader<RowData, ArchiveSplit> {

  static final String EVENT_TIME = "event_time";
  private static final int BATCH = 256;

  private final SourceReaderContext context;
  private final TableLoader loader;
  private final long snapshot;
  private final RowType columns;
  private final boolean follow;
  @Nullable private final Pace pace;

  private final Map<String, Active> splits = new LinkedHashMap<>();
  private final Set<String> paused = new HashSet<>();
  private CompletableFuture<Void> available = new CompletableFuture<>();
  private boolean allGiven;
  private volatile long pending;

  private Table table;
  private Schema read;
  private boolean[] milliseconds;
  private RowData.FieldGetter[] getters;
  private int offsetAt;
  private int timeAt;
  private Pace.Gate gate;

  private static final class Active {
    final ArchiveSplit split;
    final PartitionReader reader;
    long time = Long.MIN_VALUE;

    Active(ArchiveSplit split, PartitionReader reader) {
      this.split = split;
      this.reader = reader;
    }
  }

  ArchiveReader(
      SourceReaderContext context,
      TableLoader loader,
      long snapshot,
      RowType columns,
      boolean follow,
      @Nullable Pace pace) {
    this.context = context;
    this.loader = loader;
    this.snapshot = snapshot;
    this.columns = columns;
    this.follow = follow;
    this.pace = pace;
  }

  @Override
  public void start() {
    ready();
  }

  /** Opens the table, once: a restored reader is given its splits before it is started. */
  private void ready() {
    if (table != null) {
      return;
    }
    loader.open();
    table = loader.loadTable();
    List<Types.NestedField> fields = new ArrayList<>();
    for (String name : columns.getFieldNames()) {
      Types.NestedField field = table.schema().findField(name);
      if (field == null) {
        throw new IllegalStateException(
            "%s: no column %s; `headwater apply` adds it".formatted(table.name(), name));
      }
      fields.add(field);
    }
    offsetAt = place(fields, PartitionReader.OFFSET);
    timeAt = place(fields, EVENT_TIME);
    read = new Schema(fields);
    RowType there = FlinkSchemaUtil.convert(read);
    milliseconds = new boolean[columns.getFieldCount()];
    getters = new RowData.FieldGetter[milliseconds.length];
    for (int i = 0; i < getters.length; i++) {
      LogicalType type = there.getTypeAt(i);
      milliseconds[i] =
          columns.getTypeAt(i).is(LogicalTypeRoot.BIGINT)
              && type.is(LogicalTypeRoot.TIMESTAMP_WITH_LOCAL_TIME_ZONE);
      getters[i] = RowData.createFieldGetter(type, i);
    }
    context.metricGroup().setPendingRecordsGauge(() -> pending);
    if (pace != null) {
      gate = pace.open();
      context.metricGroup().gauge("paceRowsPerSecond", (Gauge<Double>) gate::rate);
      context.metricGroup().gauge("paceHeldMs", (Gauge<Long>) gate::heldMs);
    }
  }

  private int place(List<Types.NestedField> fields, String name) {
    for (int i = 0; i < fields.size(); i++) {
      if (fields.get(i).name().equals(name)) {
        return i;
      }
    }
    fields.add(table.schema().findField(name));
    return fields.size() - 1;
  }

  @Override
  public InputStatus pollNext(ReaderOutput<RowData> output) throws Exception {
    Active behind = null;
    for (Active one : splits.values()) {
      if (!paused.contains(one.split.splitId()) && (behind == null || one.time < behind.time)) {
        behind = one;
      }
    }
    if (behind == null) {
      if (splits.isEmpty() && allGiven) {
        return end(output);
      }
      return nothingNow();
    }
    String id = behind.split.splitId();
    var its = output.createOutputForSplit(id);
    for (int i = 0; i < BATCH; i++) {
      if (gate != null) {
        gate.pass();
        if (gate.rate() < BATCH * 4.0) {
          i = BATCH; // slow: give checkpoints a chance after each row
        }
      }
      RowData row = behind.reader.read();
      if (row == null) {
        behind.reader.close();
        splits.remove(id);
        if (follow) {
          its.markIdle(); // else its last watermark would stay behind, and hold back all that comes
        }
        output.releaseOutputForSplit(id);
        break;
      }
      behind.time = Math.max(behind.time, row.getTimestamp(timeAt, 6).getMillisecond());
      its.collect(produced(row));
    }
    count();
    return splits.isEmpty() && allGiven ? end(output) : InputStatus.MORE_AVAILABLE;
  }

  /** At most as many records are still to be read; metrics are asked for by other threads. */
  private void count() {
    long left = 0;
    for (Active one : splits.values()) {
      left += one.split.end() - one.reader.next();
    }
    pending = left;
  }

  /** All is read. */
  private InputStatus end(ReaderOutput<RowData> output) {
    if (!follow) {
      return InputStatus.END_OF_INPUT;
    }
    output.markIdle();
    return nothingNow();
  }

  private InputStatus nothingNow() {
    if (available.isDone()) {
      available = new CompletableFuture<>();
    }
    return InputStatus.NOTHING_AVAILABLE;
  }

  private RowData produced(RowData row) {
    GenericRowData result = new GenericRowData(getters.length);
    for (int i = 0; i < getters.length; i++) {
      Object value = getters[i].getFieldOrNull(row);
      if (milliseconds[i] && value != null) {
        value = ((TimestampData) value).getMillisecond();
      }
      result.setField(i, value);
    }
    return result;
  }

  @Override
  public List<ArchiveSplit> snapshotState(long checkpoint) {
    return splits.values().stream()
        .map(one -> new ArchiveSplit(one.split.partition(), one.reader.next(), one.split.end()))
        .toList();
  }

  @Override
  public CompletableFuture<Void> isAvailable() {
    return available;
  }

  @Override
  public void addSplits(List<ArchiveSplit> added) {
    ready();
    for (ArchiveSplit split : added) {
      splits.put(
          split.splitId(),
          new Active(split, new PartitionReader(table, snapshot, read, offsetAt, split)));
    }
    count();
    changed();
  }

  @Override
  public void notifyNoMoreSplits() {
    allGiven = true;
    changed();
  }

  @Override
  public void pauseOrResumeSplits(Collection<String> toPause, Collection<String> toResume) {
    paused.addAll(toPause);
    paused.removeAll(toResume);
    changed();
  }

  private void changed() {
    available.complete(null);
  }

  @Override
  public void close() throws IOException {
    for (Active one : splits.values()) {
      one.reader.close();
    }
    loader.close();
  }
}
