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
   * One accumulator: {@code column} is -1 for rows, {@code filter} is -1 or the boolean column that
   * must be true, {@code object} is -1 unless it keeps one.
   */
  record Slot(
      Kind kind,
      Plain plain,
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

  /** How two values of a SUM, MIN or MAX become one. */
  enum Plain {
    NONE,
    ADD_LONGS,
    ADD_DOUBLES,
    MIN_LONGS,
    MIN_DOUBLES,
    MAX_LONGS,
    MAX_DOUBLES;

    static Plain of(Kind kind, ColumnType type) {
      boolean isDouble = type == ColumnType.DOUBLE;
      return switch (kind) {
        case SUM -> isDouble ? ADD_DOUBLES : ADD_LONGS;
        case MIN -> isDouble ? MIN_DOUBLES : MIN_LONGS;
        case MAX -> isDouble ? MAX_DOUBLES : MAX_LONGS;
        default -> NONE;
      };
    }

    long combine(long a, long b) {
      return switch (this) {
        case NONE -> throw new IllegalStateException("nothing to combine");
        case ADD_LONGS -> a + b;
        case ADD_DOUBLES ->
            Double.doubleToRawLongBits(Double.longBitsToDouble(a) + Double.longBitsToDouble(b));
        case MIN_LONGS -> Math.min(a, b);
        case MAX_LONGS -> Math.max(a, b);
        case MIN_DOUBLES -> compare(a, b) <= 0 ? a : b;
        case MAX_DOUBLES -> compare(a, b) >= 0 ? a : b;
      };
    }

    private static int compare(long a, long b) {
      return Double.compare(Double.longBitsToDouble(a), Double.longBitsToDouble(b));
    }
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
    declared.add(
        new Slot(kind, Plain.of(kind, type), column, type, filter, parameter, words, object));
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
          if (slot.object >= 0) {
            s[sat + slot.object] = row.strings[column];
          } else {
            w[o + 1] = row.values[column];
          }
        }
        case FIRST -> {
          if (w[o] == 0) {
            w[o] = 1;
            if (slot.object >= 0) {
              s[sat + slot.object] = row.strings[column];
            } else {
              w[o + 1] = row.values[column];
            }
          }
        }
        case SHARE -> {
          w[o]++;
          w[o + 1] += row.values[column];
        }
        case DISTINCT, QUANTILES, NEWEST -> {
          if (w[o]++ == 0) {
            s[sat + slot.object] = Sketch.make(slot);
          }
          StringData string = slot.type == ColumnType.STRING ? row.strings[column] : null;
          ((Sketch) s[sat + slot.object]).add(row.values[column], string);
        }
        case SUM, MIN, MAX -> {
          long value = row.values[column];
          w[o + 1] = w[o] == 0 ? value : slot.plain.combine(w[o + 1], value);
          w[o]++;
        }
      }
    }
  }

  /** Merges later accumulators into earlier ones, for the slots listed. */
  void merge(int[] which, Tile earlier, Tile later) {
    merge(which, earlier, later.w, 0, later.s, 0);
  }

  /** The same of a tile among others, at {@code at} words and {@code sat} objects. */
  void merge(int[] which, Tile earlier, long[] from, int at, Object[] fromObjects, int sat) {
    long[] into = earlier.w;
    Object[] intoObjects = earlier.s;
    for (int index : which) {
      Slot slot = slots[index];
      int i = slot.offset;
      int f = at + i;
      long n = from[f];
      if (n == 0) {
        continue;
      }
      if (slot.plain != Plain.NONE && into[i] == 0) {
        into[i] = n;
        into[i + 1] = from[f + 1];
        continue;
      }
      switch (slot.kind) {
        case COUNT -> into[i] += n;
        case SUM, MIN, MAX -> {
          into[i] += n;
          into[i + 1] = slot.plain.combine(into[i + 1], from[f + 1]);
        }
        case VARIANCE -> mergeVariance(into, i, from, f);
        case LAST -> {
          into[i] = n;
          if (slot.object >= 0) {
            intoObjects[slot.object] = fromObjects[sat + slot.object];
          } else {
            into[i + 1] = from[f + 1];
          }
        }
        case FIRST -> {
          if (into[i] == 0) {
            into[i] = n;
            if (slot.object >= 0) {
              intoObjects[slot.object] = fromObjects[sat + slot.object];
            } else {
              into[i + 1] = from[f + 1];
            }
          }
        }
        case SHARE -> {
          into[i] += n;
          into[i + 1] += from[f + 1];
        }
        case DISTINCT, QUANTILES, NEWEST -> {
          Sketch later = (Sketch) fromObjects[sat + slot.object];
          if (into[i] == 0) {
            intoObjects[slot.object] = later.copy();
          } else {
            ((Sketch) intoObjects[slot.object]).merge(later);
          }
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
