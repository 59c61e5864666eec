package io.headwater.kernel.rolling;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.data.StringData;

/**
 * Where the accumulators of one tile lie in its {@code long[]} and {@code StringData[]}.
 *
 * <p>Every accumulator starts with the word {@code n}: 0 means that it saw nothing. Doubles are
 * kept as their bits. Accumulators only grow, by {@link #add} and {@link #merge}; nothing is
 * subtracted.
 */
final class Layout implements Serializable {

  private static final long serialVersionUID = 1L;

  /** What an accumulator keeps; the words after {@code n} in brackets. */
  enum Kind {
    /** Rows, or non-null values of a column [] . */
    COUNT(1),
    /** [sum], of the column's own type. */
    SUM(2),
    /** [value]. */
    MIN(2),
    /** [value]. */
    MAX(2),
    /** [mean, sum of squared deviations], both doubles. */
    VARIANCE(3),
    /** [value], or a string in the tile's string slots. */
    LAST(2);

    final int words;

    Kind(int words) {
      this.words = words;
    }
  }

  /** One accumulator: {@code column} is -1 for rows; {@code string} is -1 unless it keeps one. */
  record Slot(Kind kind, int column, ColumnType type, int offset, int string)
      implements Serializable {}

  private final List<Slot> declared = new ArrayList<>();
  private Slot[] slots = new Slot[0];
  private int words;
  private int strings;

  int words() {
    return words;
  }

  int strings() {
    return strings;
  }

  Slot slot(int index) {
    return slots[index];
  }

  /** Index of the accumulator, shared by all features that need the same one. */
  int declare(Kind kind, int column, ColumnType type) {
    for (int i = 0; i < slots.length; i++) {
      if (slots[i].kind == kind && slots[i].column == column) {
        return i;
      }
    }
    boolean isString = kind == Kind.LAST && type == ColumnType.STRING;
    declared.add(new Slot(kind, column, type, words, isString ? strings++ : -1));
    words += isString ? 1 : kind.words;
    slots = declared.toArray(Slot[]::new);
    return slots.length - 1;
  }

  /** Adds a row to all accumulators of the tile at {@code at} words and {@code sat} strings. */
  void add(long[] w, int at, StringData[] s, int sat, BufferedRow row) {
    for (Slot slot : slots) {
      int column = slot.column;
      int o = at + slot.offset;
      if (column >= 0 && row.isNull(column)) {
        continue;
      }
      switch (slot.kind) {
        case COUNT -> w[o]++;
        case VARIANCE -> {
          double x =
              slot.type == ColumnType.DOUBLE
                  ? Double.longBitsToDouble(row.values[column])
                  : row.values[column];
          long n = ++w[o];
          double mean = Double.longBitsToDouble(w[o + 1]);
          double delta = x - mean;
          mean += delta / n;
          w[o + 1] = Double.doubleToRawLongBits(mean);
          w[o + 2] =
              Double.doubleToRawLongBits(Double.longBitsToDouble(w[o + 2]) + delta * (x - mean));
        }
        case LAST -> {
          w[o] = 1;
          if (slot.string >= 0) {
            s[sat + slot.string] = row.strings[column];
          } else {
            w[o + 1] = row.values[column];
          }
        }
        default -> combine(slot, w, o, 1, row.values[column]);
      }
    }
  }

  /** Merges later accumulators into earlier ones, for the slots listed. */
  void merge(
      int[] which,
      long[] into,
      StringData[] intoStrings,
      long[] from,
      int at,
      StringData[] fromStrings,
      int sat) {
    for (int index : which) {
      Slot slot = slots[index];
      int i = slot.offset;
      int f = at + i;
      long n = from[f];
      if (n == 0) {
        continue;
      }
      switch (slot.kind) {
        case COUNT -> into[i] += n;
        case VARIANCE -> mergeVariance(into, i, from, f);
        case LAST -> {
          into[i] = n;
          if (slot.string >= 0) {
            intoStrings[slot.string] = fromStrings[sat + slot.string];
          } else {
            into[i + 1] = from[f + 1];
          }
        }
        default -> combine(slot, into, i, n, from[f + 1]);
      }
    }
  }

  private static void combine(Slot slot, long[] w, int o, long n, long value) {
    if (w[o] == 0) {
      w[o] = n;
      w[o + 1] = value;
      return;
    }
    w[o] += n;
    boolean isDouble = slot.type == ColumnType.DOUBLE;
    if (slot.kind == Kind.SUM) {
      w[o + 1] =
          isDouble
              ? Double.doubleToRawLongBits(
                  Double.longBitsToDouble(w[o + 1]) + Double.longBitsToDouble(value))
              : w[o + 1] + value;
    } else {
      int order =
          isDouble
              ? Double.compare(Double.longBitsToDouble(value), Double.longBitsToDouble(w[o + 1]))
              : Long.compare(value, w[o + 1]);
      if (slot.kind == Kind.MIN ? order < 0 : order > 0) {
        w[o + 1] = value;
      }
    }
  }

  /** Chan's formula for the moments of two disjoint sets. */
  private static void mergeVariance(long[] into, int i, long[] from, int f) {
    long n = into[i];
    if (n == 0) {
      System.arraycopy(from, f, into, i, 3);
      return;
    }
    long m = from[f];
    long total = n + m;
    double mean = Double.longBitsToDouble(into[i + 1]);
    double delta = Double.longBitsToDouble(from[f + 1]) - mean;
    double squares =
        Double.longBitsToDouble(into[i + 2])
            + Double.longBitsToDouble(from[f + 2])
            + delta * delta * ((double) n * m / total);
    into[i] = total;
    into[i + 1] = Double.doubleToRawLongBits(mean + delta * m / total);
    into[i + 2] = Double.doubleToRawLongBits(squares);
  }
}
