package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;

import io.headwater.kernel.traces.RowTrace;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import javax.annotation.Nullable;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryStringData;

/** Rows of one view as the keys and the arguments of {@link Script}. */
final class RowEncoder {

  private static final byte[] UNTRACED = {};

  private final RedisSinkConfig config;
  private final Column[] keys;
  private final Column[] features;
  private final Column[] strings;
  private final DataOutputSerializer scratch = new DataOutputSerializer(64);

  /** So long is the part of {@link #scratch} that all keys have. */
  private final int keyPrefix;

  private final byte[] project;
  private final String epoch;

  /** The arguments that all calls have. */
  private final byte[][] header;

  /** As many as the sink's rows have, up to the last feature. */
  private final int places;

  RowEncoder(RedisSinkConfig config) {
    this.config = config;
    // Feast sorts the names by code point, which is the order of their UTF-8.
    keys = config.keys().toArray(Column[]::new);
    Arrays.sort(
        keys,
        Comparator.comparing((Column key) -> key.name().getBytes(UTF_8), Arrays::compareUnsigned));
    byte[][] names =
        Arrays.stream(keys).map(key -> key.name().getBytes(UTF_8)).toArray(byte[][]::new);
    try {
      FeastCodec.writeKeyPrefix(scratch, names);
    } catch (IOException e) { // of memory there is none
      throw new UncheckedIOException(e);
    }
    keyPrefix = scratch.length();
    project = config.project().getBytes(UTF_8);
    epoch = config.epoch() + ":";
    features = config.features().toArray(Column[]::new);
    strings =
        Arrays.stream(features)
            .filter(feature -> feature.kind() == Column.Kind.STRING)
            .toArray(Column[]::new);
    places = config.features().stream().mapToInt(Column::index).max().orElse(-1) + 1;
    header = new byte[Script.HEADER + features.length + (config.trace() == null ? 0 : 1)][];
    header[0] = ("_ep:" + config.view()).getBytes(UTF_8);
    header[1] = epoch.getBytes(UTF_8);
    header[2] = ("_ts:" + config.view()).getBytes(UTF_8);
    for (int i = 0; i < features.length; i++) {
      header[Script.HEADER + i] = FeastCodec.featureField(config.view(), features[i].name());
    }
    if (config.trace() != null) {
      header[header.length - 1] = ("_trace:" + config.view()).getBytes(UTF_8);
    }
  }

  /**
   * The entity's key as Latin-1 text, a character a byte, which compares and hashes faster than a
   * wrapped array.
   */
  String key(RowData row) throws IOException {
    scratch.setPosition(keyPrefix);
    for (Column key : keys) {
      notNull(row, key);
      key.writeKey(row, scratch);
    }
    scratch.write(project);
    return new String(scratch.getSharedBuffer(), 0, scratch.length(), ISO_8859_1);
  }

  long eventTime(RowData row) throws IOException {
    Column column = config.eventTime();
    notNull(row, column);
    long time = column.milliseconds(row);
    // Seconds or microseconds by mistake would else win or lose against every row to come.
    if (time < FeastCodec.MIN_EVENT_TIME || time > FeastCodec.MAX_EVENT_TIME) {
      throw new IOException(
          "view %s: column '%s' is %d, not milliseconds since 1970 of the years 1 to 9999"
              .formatted(config.view(), column.name(), time));
    }
    return time;
  }

  /** Where the row's event was sampled; null for nearly all. */
  @Nullable
  RowTrace trace(RowData row) {
    Column column = config.trace();
    return column == null || row.isNullAt(column.index())
        ? null
        : RowTrace.parse(row.getString(column.index()).toString());
  }

  /** What Redis knows an entity by, of its {@link #key}. */
  static byte[] bytes(String key) {
    return key.getBytes(ISO_8859_1);
  }

  /** A place for rows of an entity with that {@link #key}. */
  Pending pending(String key) {
    return new Pending(bytes(key), places);
  }

  /** Puts a row in the place of the one before. */
  void keep(RowData row, long eventTime, boolean delete, Pending pending) {
    pending.eventTime = eventTime;
    pending.delete = delete;
    if (!delete) {
      for (Column feature : features) {
        feature.copy(row, pending.values);
      }
    }
  }

  /** Keys and arguments of a call of {@link Script} for these rows. */
  byte[][] parameters(List<Pending> rows) throws IOException {
    byte[][] result = new byte[rows.size() + header.length + 1][];
    for (int i = 0; i < rows.size(); i++) {
      result[i] = rows.get(i).key;
    }
    System.arraycopy(header, 0, result, rows.size(), header.length);
    result[result.length - 1] = values(rows);
    return result;
  }

  /** Bytes of a row's strings, which alone may be many. */
  long text(Pending row) {
    long bytes = 0;
    for (Column column : strings) {
      if (!row.delete && !row.values.isNullAt(column.index())) {
        bytes += ((BinaryStringData) row.values.getString(column.index())).getSizeInBytes();
      }
    }
    return bytes;
  }

  private byte[] values(List<Pending> rows) throws IOException {
    PackedValues values = new PackedValues(rows.size() * header.length);
    for (Pending row : rows) {
      values
          .add((epoch + row.eventTime).getBytes(ISO_8859_1))
          .add(row.delete ? null : Boolean.valueOf(row.eventTime >= 0))
          .add(FeastCodec.eventTime(row.eventTime));
      for (Column feature : features) {
        values.add(row.delete ? FeastCodec.NULL : feature.encode(row.values));
      }
      if (config.trace() != null) {
        values.add(row.trace == null ? UNTRACED : row.trace.stored().getBytes(ISO_8859_1));
      }
    }
    return values.packed();
  }

  boolean isDelete(RowData row) {
    Column deleted = config.deleted();
    return deleted != null && !row.isNullAt(deleted.index()) && row.getBoolean(deleted.index());
  }

  private void notNull(RowData row, Column column) throws IOException {
    if (row.isNullAt(column.index())) {
      throw new IOException(
          "view %s: column '%s' is NULL, but has the entity or its event time; filter such rows"
              .formatted(config.view(), column.name()));
    }
  }
}
