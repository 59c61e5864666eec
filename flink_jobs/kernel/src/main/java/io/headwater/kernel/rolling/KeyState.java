package io.headwater.kernel.rolling;

import java.util.Arrays;

/** All that is kept for one key. Mutable; changed in place where it is kept as this object. */
final class KeyState {

  /** Before all time. */
  static final long NEVER = Long.MIN_VALUE;

  /** After all time. */
  static final long NEVER_DUE = Long.MAX_VALUE;

  private static final BufferedRow[] NO_ROWS = new BufferedRow[0];

  /** Of the spec that wrote this state: state of another spec is refused, not misread. */
  final int fingerprint;

  /** The last instant handled; rows at or before it are late. */
  long handled = NEVER;

  /** The instant at which anything is due; the timer that is set is {@link Shard#timer}. */
  long timer = NEVER_DUE;

  /** Rows not yet due: unordered after {@link #append}, ordered after {@link #sort}. */
  BufferedRow[] rows = NO_ROWS;

  int firstRow;
  int endRow;

  /** The rows before this position are in order. */
  private int orderedEnd;

  /** Accumulators of the lifetime features: words, and what does not fit in words. */
  final long[] life;

  final Object[] lifeObjects;

  /** Tiles, one array an edge length. */
  final Tiles[] tiles;

  /** The windows, where they hold more than a few tiles; derived, so neither written nor copied. */
  Fold[] folds;

  /** The key's columns, once they have been asked for; the shard has them. */
  Object[] key;

  KeyState(int fingerprint, long[] life, Object[] lifeObjects, Tiles[] tiles) {
    this.fingerprint = fingerprint;
    this.life = life;
    this.lifeObjects = lifeObjects;
    this.tiles = tiles;
  }

  void append(BufferedRow row) {
    if (endRow == rows.length) {
      int size = endRow - firstRow;
      BufferedRow[] target =
          size > rows.length / 2 || rows.length == 0
              ? new BufferedRow[Math.max(2, size * 2)]
              : rows;
      System.arraycopy(rows, firstRow, target, 0, size);
      Arrays.fill(target, size, target.length, null);
      rows = target;
      orderedEnd -= firstRow;
      firstRow = 0;
      endRow = size;
    }
    boolean follows =
        orderedEnd == endRow && (endRow == firstRow || rows[endRow - 1].compareTo(row) <= 0);
    rows[endRow++] = row;
    if (follows) {
      orderedEnd = endRow;
    }
  }

  /**
   * Puts the rows in order. Those that came since the last time are few, and later than most that
   * wait: they are sorted alone, then merged with what is not before all of them.
   */
  void sort() {
    if (orderedEnd < endRow) {
      Arrays.sort(rows, orderedEnd, endRow);
      int place = Arrays.binarySearch(rows, firstRow, orderedEnd, rows[orderedEnd]);
      Arrays.sort(rows, place < 0 ? -place - 1 : place, endRow);
      orderedEnd = endRow;
    }
  }

  /** Whether the first row, the rows being sorted, is of {@code time}. */
  boolean hasRowAt(long time) {
    return firstRow < endRow && rows[firstRow].time == time;
  }

  /** Takes the first row out; the rows are sorted. */
  BufferedRow poll() {
    BufferedRow row = rows[firstRow];
    rows[firstRow++] = null;
    if (firstRow == endRow) {
      firstRow = endRow = orderedEnd = 0;
      if (rows.length > 64) {
        rows = NO_ROWS;
      }
    }
    return row;
  }

  /** Tiles of one edge length, oldest first; only those that hold a row. */
  static final class Tiles {
    final int words;
    final int objects;
    int first;
    int end;
    long[] index;
    long[] w;
    Object[] s;

    Tiles(int words, int objects, int capacity) {
      this.words = words;
      this.objects = objects;
      this.index = new long[capacity];
      this.w = new long[capacity * words];
      this.s = new Object[capacity * objects];
    }

    /** Appends an empty tile; returns by how much the positions of the others fell. */
    int append(long tile) {
      int moved = 0;
      if (end == index.length) {
        int size = end - first;
        int capacity = size > index.length / 2 ? Math.max(2, size + (size >> 1) + 1) : index.length;
        moved = first;
        index = move(index, new long[capacity], first, size, 1);
        w = move(w, new long[capacity * words], first, size, words);
        Object[] target = new Object[capacity * objects];
        System.arraycopy(s, first * objects, target, 0, size * objects);
        s = target;
        first = 0;
        end = size;
      }
      index[end++] = tile;
      return moved;
    }

    private static long[] move(long[] from, long[] to, int first, int size, int width) {
      System.arraycopy(from, first * width, to, 0, size * width);
      return to;
    }

    /** Forgets the tiles before {@code position}. */
    void dropBefore(int position) {
      if (objects > 0) {
        Arrays.fill(s, first * objects, position * objects, null);
      }
      first = position;
    }
  }
}
