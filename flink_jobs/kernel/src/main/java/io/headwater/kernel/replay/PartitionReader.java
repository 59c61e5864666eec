package io.headwater.kernel.replay;

import java.io.Closeable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.PriorityQueue;
import org.apache.flink.table.data.RowData;
import org.apache.iceberg.BaseCombinedScanTask;
import org.apache.iceberg.FileScanTask;
import org.apache.iceberg.Schema;
import org.apache.iceberg.Table;
import org.apache.iceberg.encryption.InputFilesDecryptor;
import org.apache.iceberg.expressions.Expressions;
import org.apache.iceberg.flink.source.RowDataFileScanTaskReader;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.io.CloseableIterator;
import org.apache.iceberg.types.Conversions;
import org.apache.iceberg.types.Types;

/**
 * The archived records of one Kafka partition in the order of their offsets, each once.
 *
 * <p>A file holds records of one partition and one day, in order; records around midnight make the
 * offsets of two files overlap, so files are merged, and opened only when their first offset is
 * due.
 */
final class PartitionReader implements Closeable {

  static final String PARTITION = "_partition";
  static final String OFFSET = "_offset";

  private final Table table;
  private final Schema columns;
  private final int offsetAt;
  private final long end;
  private final Deque<FileScanTask> files;
  private final PriorityQueue<OpenFile> open =
      new PriorityQueue<>(Comparator.comparingLong(file -> file.offset));

  /** The file whose row was given out last: it goes on only then, since it reuses the row. */
  private OpenFile current;

  private long next;

  /** {@code columns} are those to read, with {@link #OFFSET} at {@code offsetAt}. */
  PartitionReader(Table table, long snapshot, Schema columns, int offsetAt, ArchiveSplit split) {
    this.table = table;
    this.columns = columns;
    this.offsetAt = offsetAt;
    next = split.next();
    end = split.end();
    List<FileScanTask> found = new ArrayList<>();
    try (CloseableIterable<FileScanTask> planned =
        table
            .newScan()
            .useSnapshot(snapshot)
            .includeColumnStats()
            .filter(
                Expressions.and(
                    Expressions.equal(PARTITION, split.partition()),
                    Expressions.greaterThanOrEqual(OFFSET, next),
                    Expressions.lessThan(OFFSET, end)))
            .planFiles()) {
      planned.forEach(found::add);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    found.sort(Comparator.comparingLong(this::first));
    files = new ArrayDeque<>(found);
  }

  private long first(FileScanTask file) {
    int id = table.schema().findField(OFFSET).fieldId();
    ByteBuffer bound = file.file().lowerBounds() == null ? null : file.file().lowerBounds().get(id);
    return bound == null ? 0 : Conversions.fromByteBuffer(Types.LongType.get(), bound);
  }

  /** The next row, valid until the next call; null at the end. */
  RowData read() {
    if (current != null) {
      if (current.advance()) {
        open.add(current);
      }
      current = null;
    }
    while (true) {
      while (!files.isEmpty() && (open.isEmpty() || first(files.peek()) <= open.peek().offset)) {
        OpenFile file = new OpenFile(files.remove());
        if (file.advance()) {
          open.add(file);
        }
      }
      OpenFile file = open.poll();
      if (file == null || file.offset >= end) {
        return null;
      }
      if (file.offset < next) {
        // Before the range, or twice in the archive.
        if (file.advance()) {
          open.add(file);
        }
        continue;
      }
      current = file;
      next = file.offset + 1;
      return file.row;
    }
  }

  /** The offset that follows the last row read. */
  long next() {
    return next;
  }

  @Override
  public void close() throws IOException {
    if (current != null) {
      open.add(current);
      current = null;
    }
    for (OpenFile file : open) {
      file.rows.close();
    }
    open.clear();
    files.clear();
  }

  private final class OpenFile {

    final String path;
    final CloseableIterator<RowData> rows;
    RowData row;
    long offset = -1;

    OpenFile(FileScanTask task) {
      path = task.file().location();
      rows =
          new RowDataFileScanTaskReader(table.schema(), columns, null, true, List.of())
              .open(
                  task,
                  new InputFilesDecryptor(
                      new BaseCombinedScanTask(task), table.io(), table.encryption()));
    }

    /** False, and closed, at the end of the file. */
    boolean advance() {
      if (!rows.hasNext()) {
        try {
          rows.close();
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
        return false;
      }
      row = rows.next();
      long found = row.getLong(offsetAt);
      if (found < offset) {
        throw new IllegalStateException(
            "%s: offset %d after %d; a file of the archive is sorted by %s"
                .formatted(path, found, offset, OFFSET));
      }
      offset = found;
      return true;
    }
  }
}
