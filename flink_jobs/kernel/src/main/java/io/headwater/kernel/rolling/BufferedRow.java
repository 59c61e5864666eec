package io.headwater.kernel.rolling;

import io.headwater.kernel.traces.RowTrace;
import java.util.Arrays;
import javax.annotation.Nullable;
import org.apache.flink.table.data.StringData;

/** The columns of one input row that features read, held until the watermark passes its time. */
final class BufferedRow implements Comparable<BufferedRow> {

  /** The most columns that one call can read; they share a word of null bits. */
  static final int MAX_COLUMNS = 64;

  final long time;
  final long nulls;

  /** One word a column; doubles as bits, booleans as 0 and 1, strings as 0. */
  final long[] values;

  /** One string a column, null where the column is none; null when no column is a string. */
  final StringData[] strings;

  /** Of a sampled event; it is no part of what the row says. */
  @Nullable final RowTrace trace;

  BufferedRow(
      long time, long nulls, long[] values, StringData[] strings, @Nullable RowTrace trace) {
    this.time = time;
    this.nulls = nulls;
    this.values = values;
    this.strings = strings;
    this.trace = trace;
  }

  boolean isNull(int column) {
    return (nulls >>> column & 1) != 0;
  }

  /** By time, and at the same time by content, so that ties are applied in one order always. */
  @Override
  public int compareTo(BufferedRow other) {
    int order = Long.compare(time, other.time);
    if (order == 0) {
      order = Long.compareUnsigned(nulls, other.nulls);
    }
    if (order == 0) {
      order = Arrays.compare(values, other.values);
    }
    for (int i = 0; order == 0 && strings != null && i < strings.length; i++) {
      if (strings[i] != null && other.strings[i] != null) {
        order = strings[i].compareTo(other.strings[i]);
      }
    }
    return order;
  }
}
