package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;

import io.headwater.kernel.traces.RowTrace;
import java.io.IOException;
import java.util.Arrays;
import java.util.Comparator;
import javax.annotation.Nullable;
import org.apache.flink.table.data.RowData;

/** Rows of one view as the key and the arguments of {@link Script}. */
final class RowEncoder {

  private static final byte[] SET = {'S'};
  private static final byte[] DELETE = {'D'};
  private static final byte[] UNTRACED = {};

  private final RedisSinkConfig config;
  private final Column[] keys;
  private final Column[] features;
  private final byte[] keyPrefix;
  private final byte[] project;
  private final String epoch;
  private final byte[][] header;

  RowEncoder(RedisSinkConfig config) {
    this.config = config;
    // Feast sorts the names by code point, which is the order of their UTF-8.
    keys = config.keys().toArray(Column[]::new);
    Arrays.sort(
        keys,
        Comparator.comparing((Column key) -> key.name().getBytes(UTF_8), Arrays::compareUnsigned));
    keyPrefix =
        FeastCodec.keyPrefix(
            Arrays.stream(keys).map(key -> key.name().getBytes(UTF_8)).toArray(byte[][]::new));
    project = config.project().getBytes(UTF_8);
    epoch = config.epoch() + ":";
    features = config.features().toArray(Column[]::new);
    header = new byte[width()][];
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

  private int width() {
    return Script.HEADER + features.length + (config.trace() == null ? 0 : 1);
  }

  /** The arguments that all calls have. */
  byte[][] header() {
    return header;
  }

  byte[] key(RowData row) throws IOException {
    byte[][] parts = new byte[keys.length][];
    int size = keyPrefix.length + project.length;
    for (int i = 0; i < keys.length; i++) {
      notNull(row, keys[i]);
      parts[i] = keys[i].encodeKey(row);
      size += parts[i].length;
    }
    byte[] key = Arrays.copyOf(keyPrefix, size);
    int position = keyPrefix.length;
    for (byte[] part : parts) {
      System.arraycopy(part, 0, key, position, part.length);
      position += part.length;
    }
    System.arraycopy(project, 0, key, position, project.length);
    return key;
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

  /** The arguments of one row; {@code trace} is kept beside it, and null where there is none. */
  byte[][] arguments(long eventTime, RowData row, boolean delete, @Nullable String trace) {
    byte[][] result = new byte[width()][];
    result[0] = (epoch + eventTime).getBytes(ISO_8859_1);
    result[1] = delete ? DELETE : SET;
    result[2] = FeastCodec.eventTime(eventTime);
    for (int i = 0; i < features.length; i++) {
      result[Script.HEADER + i] = delete ? FeastCodec.NULL : features[i].encode(row);
    }
    if (config.trace() != null) {
      result[result.length - 1] = trace == null ? UNTRACED : trace.getBytes(ISO_8859_1);
    }
    return result;
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
