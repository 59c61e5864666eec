package io.headwater.kernel.rolling;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.table.data.StringData;

/**
 * Where the accumulators of one tile lie in its {@code long[]} and {@code Object[]}, which holds
 * strings and sketches.
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
    /** [value], or a string among the tile's objects. */
    LAST(2),
    /** As {@link #LAST}. */
    FIRST(2),
    /** [rows for which the column is true]. */
    SHARE(2),
    /** A {@link Distinct} among the objects. */
    DISTINCT(1),
    /** A {@link Quantiles} among the objects. */
    QUANTILES(1),
    /** A {@link Newest} among the objects. */
    NEWEST(1);

    final int words;

    Kind(int words) {
      this.words = words;
    }

    boolean isSketch() {
      return this == DISTINCT || this == QUANTILES || this == NEWEST;
    }
  }

  /**
   * What {@link #add} and {@link #merge} do to an accumulator, as numbers that a switch jumps by.
   */
  private static final int COUNT = 0;

  private static final int SHARE = 1;
  private static final int ADD_LONGS = 2;
  private static final int ADD_DOUBLES = 3;
  private static final int MIN_LONGS = 4;
  private static final int MIN_DOUBLES = 5;
  private static final int MAX_LONGS = 6;
  private static final int MAX_DOUBLES = 7;
  private static final int VARIANCE = 8;
  private static final int LAST = 9;
  private static final int FIRST = 10;
  private static final int SKETCH = 11;

  /**
   * One accumulator: {@code column} is -1 for rows, {@code filter} is -1 or the boolean column that
   * must be true, {@code object} is -1 unless it keeps one.
   */
  record Slot(
      Kind kind,
      int how,
      int column,
      ColumnType type,
      int filter,
      int parameter,
      int offset,
      int object)
      implements Serializable {

    /** Whether a row counts: not null, and the filter, if there is one, true. */
    boolean takes(BufferedRow row) {
      // A filter that is null is 0 too.
      return (column < 0 || !row.isNull(column)) && (filter < 0 || row.values[filter] != 0);
    }
  }

  private static int how(Kind kind, ColumnType type) {
    boolean isDouble = type == ColumnType.DOUBLE;
    return switch (kind) {
      case COUNT -> COUNT;
      case SHARE -> SHARE;
      case SUM -> isDouble ? ADD_DOUBLES : ADD_LONGS;
      case MIN -> isDouble ? MIN_DOUBLES : MIN_LONGS;
      case MAX -> isDouble ? MAX_DOUBLES : MAX_LONGS;
      case VARIANCE -> VARIANCE;
      case LAST -> LAST;
      case FIRST -> FIRST;
      case DISTINCT, QUANTILES, NEWEST -> SKETCH;
    };
  }

  /** How two values of a sum, a minimum or a maximum become one. */
  private static long combine(int how, long a, long b) {
    return switch (how) {
      case ADD_LONGS -> a + b;
      case ADD_DOUBLES ->
          Double.doubleToRawLongBits(Double.longBitsToDouble(a) + Double.longBitsToDouble(b));
      case MIN_LONGS -> Math.min(a, b);
      case MAX_LONGS -> Math.max(a, b);
      case MIN_DOUBLES -> compare(a, b) <= 0 ? a : b;
      case MAX_DOUBLES -> compare(a, b) >= 0 ? a : b;
      default -> throw new IllegalArgumentException("nothing to combine: " + how);
    };
  }

  private static int compare(long a, long b) {
    return Double.compare(Double.longBitsToDouble(a), Double.longBitsToDouble(b));
  }

  /** The accumulators of one tile, or of several merged; empty when made. */
  static final class Tile {
    final long[] w;
    final Object[] s;

    Tile(Layout layout) {
      w = new long[layout.words];
      s = new Object[layout.objects];
    }

    void clear() {
      Arrays.fill(w, 0);
      Arrays.fill(s, null);
    }
  }

  private final List<Slot> declared = new ArrayList<>();
  private Slot[] slots = new Slot[0];
  private int words;
  private int objects;

  int words() {
    return words;
  }

  int objects() {
    return objects;
  }

  Slot slot(int index) {
    return slots[index];
  }

  /** Index of the accumulator, shared by all features that need the same one. */
  int declare(Kind kind, int column, ColumnType type, int filter, int parameter) {
    for (int i = 0; i < slots.length; i++) {
      Slot slot = slots[i];
      if (slot.kind == kind
          && slot.column == column
          && slot.filter == filter
          && slot.parameter == parameter) {
        return i;
      }
    }
    boolean isString = (kind == Kind.LAST || kind == Kind.FIRST) && type == ColumnType.STRING;
    int object = isString || kind.isSketch() ? objects++ : -1;
    declared.add(new Slot(kind, how(kind, type), column, type, filter, parameter, words, object));
    words += isString ? 1 : kind.words;
    slots = declared.toArray(Slot[]::new);
    return slots.length - 1;
  }

  /** Adds a row to all accumulators of the tile at {@code at} words and {@code sat} objects. */
  void add(long[] w, int at, Object[] s, int sat, BufferedRow row) {
    for (Slot slot : slots) {
      int column = slot.column;
      int o = at + slot.offset;
      if (!slot.takes(row)) {
        continue;
      }
      switch (slot.how) {
        case COUNT -> w[o]++;
        case SHARE -> {
          w[o]++;
          w[o + 1] += row.values[column];
        }
        case VARIANCE -> addToVariance(w, o, slot.type, row.values[column]);
        case LAST, FIRST -> {
          if (slot.how == LAST || w[o] == 0) {
            w[o] = 1;
            if (slot.object >= 0) {
              s[sat + slot.object] = row.strings[column];
            } else {
              w[o + 1] = row.values[column];
            }
          }
        }
        case SKETCH -> {
          if (w[o]++ == 0) {
            s[sat + slot.object] = Sketch.make(slot);
          }
          StringData string = slot.type == ColumnType.STRING ? row.strings[column] : null;
          ((Sketch) s[sat + slot.object]).add(row.values[column], string);
        }
        default -> {
          long value = row.values[column];
          w[o + 1] = w[o] == 0 ? value : combine(slot.how, w[o + 1], value);
          w[o]++;
        }
      }
    }
  }

  /** Welford's way to the moments of one value more. */
  private static void addToVariance(long[] w, int o, ColumnType type, long value) {
    double x = type == ColumnType.DOUBLE ? Double.longBitsToDouble(value) : value;
    long n = ++w[o];
    double mean = Double.longBitsToDouble(w[o + 1]);
    double delta = x - mean;
    mean += delta / n;
    w[o + 1] = Double.doubleToRawLongBits(mean);
    w[o + 2] = Double.doubleToRawLongBits(Double.longBitsToDouble(w[o + 2]) + delta * (x - mean));
  }

  /** Makes {@code to} what a tile among others holds, for the slots listed; others mean nothing. */
  void set(int[] which, Tile to, long[] from, int at, Object[] fromObjects, int sat) {
    System.arraycopy(from, at, to.w, 0, words);
    if (objects == 0) {
      return;
    }
    for (int index : which) {
      Slot slot = slots[index];
      if (slot.object >= 0) {
        Object object = fromObjects[sat + slot.object];
        to.s[slot.object] = object instanceof Sketch sketch ? sketch.copy() : object;
      }
    }
  }

  /** Merges later accumulators into earlier ones, for the slots listed. */
  void merge(int[] which, Tile earlier, long[] from, int at, Object[] fromObjects, int sat) {
    long[] into = earlier.w;
    for (int index : which) {
      Slot slot = slots[index];
      int i = slot.offset;
      int f = at + i;
      long n = from[f];
      if (n == 0) {
        continue;
      }
      switch (slot.how) {
        case COUNT -> into[i] += n;
        case SHARE -> {
          into[i] += n;
          into[i + 1] += from[f + 1];
        }
        case VARIANCE -> mergeVariance(into, i, from, f);
        case LAST, FIRST -> {
          if (slot.how == LAST || into[i] == 0) {
            into[i] = n;
            if (slot.object >= 0) {
              earlier.s[slot.object] = fromObjects[sat + slot.object];
            } else {
              into[i + 1] = from[f + 1];
            }
          }
        }
        case SKETCH -> {
          Sketch later = (Sketch) fromObjects[sat + slot.object];
          if (into[i] == 0) {
            earlier.s[slot.object] = later.copy();
          } else {
            ((Sketch) earlier.s[slot.object]).merge(later);
          }
          into[i] += n;
        }
        default -> {
          into[i + 1] = into[i] == 0 ? from[f + 1] : combine(slot.how, into[i + 1], from[f + 1]);
          into[i] += n;
        }
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
