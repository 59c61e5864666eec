package io.headwater.kernel.rolling;

import java.util.Arrays;
import javax.annotation.Nullable;

/**
 * One window of one key: where it begins among the tiles, and what of it is merged already.
 *
 * <p>Tiles are merged by blocks as long as the window, aligned to time zero (van Herk, Gil and
 * Werman's filter): the block in which the window begins from its end towards the window's
 * beginning, the block after it from its beginning towards the present. So a moved tail costs a
 * look-up and a new tile one merge, however long the window is; and in which order doubles are
 * added up follows from the window's rows and the time alone, not from what was merged before.
 * Percentiles go by counts, which can be taken back exactly, so for them one sketch follows the
 * window.
 *
 * <p>All of this is derived from the tiles, and never written.
 */
final class Fold {

  /** So many tiles are merged anew for each value, rather than kept merged. */
  private static final int FEW = 4;

  /** Of so many suffixes one has sketches: each is as large as all that it is made of. */
  private static final int SPARSE = 16;

  private final Spec.Window window;
  private final Layout layout;
  private final long edge;

  /** Tiles in a block. */
  private final long span;

  private KeyState.Tiles tiles;

  /** Whether the window, or how it is merged, is another one than at {@link #wasStale}. */
  private boolean stale;

  /** When the first tile leaves, and when the window begins in another block. */
  private long leaves;

  private long crosses;

  /** First index after the block in which the window begins. */
  private long blockEnd;

  /** Position of the window's first tile, and of the first one after the block it begins in. */
  private int first;

  private int middle;

  /** The tiles from {@link #middle} to here are merged into {@link #prefix}. */
  private int end;

  private Layout.Tile prefix;

  /** All of the window but its newest tile, as long as it begins and ends where it says. */
  private Layout.Tile settled;

  private int settledFirst;
  private int settledEnd;

  /** Each tile from {@link #suffixFirst} to {@link #middle}, merged with all after it. */
  private long[] suffixes;

  private Object[] suffixObjects;
  private int suffixFirst;

  /** For each percentile's slot, all of the window. */
  private final Quantiles[] quantiles;

  /** For each distinct count's slot, the last answer and what it was made of. */
  private final Union[] unions;

  private static final class Union {
    int first = -1;
    int last = -1;
    long changes;
    long answer;
  }

  Fold(Spec.Window window, Spec.Lane lane) {
    this.window = window;
    this.layout = lane.layout();
    this.edge = lane.tile();
    this.span = window.size() / edge;
    this.quantiles = new Quantiles[window.quantiles().length];
    this.unions = new Union[window.distincts().length];
  }

  /** Begins anew over those tiles, as of {@code time}. */
  Fold attach(KeyState.Tiles tiles, long time) {
    this.tiles = tiles;
    blockEnd = Long.MIN_VALUE;
    crosses = Long.MIN_VALUE;
    leaves = KeyState.NEVER_DUE;
    first = middle = end = tiles.first;
    forget();
    for (int i = 0; i < quantiles.length; i++) {
      Layout.Slot slot = layout.slot(window.quantiles()[i]);
      quantiles[i] = new Quantiles(slot.type() == ColumnType.DOUBLE);
      for (int tile = first; tile < tiles.end; tile++) {
        if (tiles.s[tile * tiles.objects + slot.object()] instanceof Quantiles more) {
          quantiles[i].merge(more);
        }
      }
    }
    Arrays.fill(unions, null);
    if (tiles.first < tiles.end) {
      moveTail(time);
    }
    return this;
  }

  /** Nothing that was merged of the blocks holds any more. */
  private void forget() {
    prefix = null;
    suffixes = null;
    suffixObjects = null;
    settledEnd = -1;
  }

  /** Makes its value be asked for anew. */
  void touch() {
    stale = true;
  }

  /** Whether its value may be another one than when this was asked last. */
  boolean wasStale() {
    boolean was = stale;
    stale = false;
    return was;
  }

  /** Position of the first tile that the window holds. */
  int first() {
    return first;
  }

  /** When the first tile leaves the window. */
  long leaves() {
    return leaves;
  }

  private long leaving() {
    return first == tiles.end
        ? KeyState.NEVER_DUE
        : (tiles.index[first] + 1) * edge + window.size();
  }

  /** Lets go of what is too old; whether anything was. */
  boolean moveTail(long time) {
    if (time < leaves && time < crosses) {
      return false;
    }
    // A crossing changes no row, but the order in which doubles are added.
    stale = true;
    long now = Math.floorDiv(time, edge);
    long low = now - span;
    int left = first;
    while (first < tiles.end && tiles.index[first] < low) {
      first++;
    }
    for (int i = 0; i < quantiles.length; i++) {
      int object = layout.slot(window.quantiles()[i]).object();
      for (int tile = left; tile < first; tile++) {
        if (tiles.s[tile * tiles.objects + object] instanceof Quantiles less) {
          quantiles[i].subtract(less);
        }
      }
    }
    leaves = leaving();
    if (low >= blockEnd) {
      blockEnd = (Math.floorDiv(low, span) + 1) * span;
      middle = Math.max(middle, first);
      while (middle < tiles.end && tiles.index[middle] < blockEnd) {
        middle++;
      }
      crosses = (blockEnd + span) * edge;
      end = middle;
      forget();
    }
    return first > left;
  }

  /** The newest tile was opened, and the others' positions fell by {@code moved}. */
  void open(int moved) {
    stale = true;
    first -= moved;
    middle -= moved;
    end -= moved;
    suffixFirst -= moved;
    settledFirst -= moved;
    settledEnd -= moved;
    leaves = leaving();
    if (moved > 0 && unions.length > 0) {
      Arrays.fill(unions, null);
    }
    if (tiles.index[tiles.end - 1] < blockEnd) {
      // Only where a block ends with this very instant.
      end = middle = tiles.end;
      forget();
    }
  }

  /**
   * The window merged, without the sketches of {@link #distinct}, {@link #newest} and {@link
   * #quantiles}; one of the two tiles given.
   */
  Layout.Tile merge(Layout.Tile one, Layout.Tile other) {
    int last = tiles.end - 1;
    // A window that ends in the block it begins in has its newest tile among the suffixes.
    if (last < middle || last - first <= FEW) {
      Layout.Tile merged = mergeSettled(one, other, last);
      if (last >= middle) {
        mergeTile(window.merged(), merged, last);
      }
      return merged;
    }
    if (settledFirst != first || settledEnd != last) {
      settled = settled == null ? new Layout.Tile(layout) : settled;
      Layout.Tile made = mergeSettled(settled, other, last);
      if (made != settled) {
        setTile(window.merged(), settled, made);
      }
      settledFirst = first;
      settledEnd = last;
    }
    setTile(window.merged(), one, settled);
    mergeTile(window.merged(), one, last);
    return one;
  }

  private Layout.Tile mergeSettled(Layout.Tile one, Layout.Tile other, int last) {
    int[] slots = window.merged();
    Layout.Tile merged = one;
    if (first == middle) {
      merged.clear();
    } else if (suffixes != null || middle - first > FEW) {
      if (suffixes == null) {
        makeSuffixes();
      }
      int i = first - suffixFirst;
      layout.set(slots, merged, suffixes, i * tiles.words, suffixObjects, i * tiles.objects);
    } else {
      setTile(slots, merged, middle - 1);
      for (int tile = middle - 2; tile >= first; tile--) {
        Layout.Tile earlier = merged == one ? other : one;
        setTile(slots, earlier, tile);
        mergeTile(slots, earlier, merged);
        merged = earlier;
      }
    }
    if (prefix != null || last - middle > FEW) {
      growPrefix(last);
      mergeTile(slots, merged, prefix);
    } else {
      for (int tile = middle; tile < last; tile++) {
        mergeTile(slots, merged, tile);
      }
    }
    return merged;
  }

  private void setTile(int[] slots, Layout.Tile to, int tile) {
    layout.set(slots, to, tiles.w, tile * tiles.words, tiles.s, tile * tiles.objects);
  }

  private void setTile(int[] slots, Layout.Tile to, Layout.Tile from) {
    layout.set(slots, to, from.w, 0, from.s, 0);
  }

  private void mergeTile(int[] slots, Layout.Tile to, int tile) {
    layout.merge(slots, to, tiles.w, tile * tiles.words, tiles.s, tile * tiles.objects);
  }

  private void mergeTile(int[] slots, Layout.Tile to, Layout.Tile later) {
    layout.merge(slots, to, later.w, 0, later.s, 0);
  }

  private void makeSuffixes() {
    int size = middle - first;
    suffixFirst = first;
    suffixes = new long[size * tiles.words];
    suffixObjects = new Object[size * tiles.objects];
    Layout.Tile later = new Layout.Tile(layout);
    Layout.Tile suffix = new Layout.Tile(layout);
    for (int i = size - 1; i >= 0; i--) {
      setTile(window.kept(), suffix, first + i);
      if (i < size - 1) {
        mergeTile(window.kept(), suffix, later);
      }
      System.arraycopy(suffix.w, 0, suffixes, i * tiles.words, tiles.words);
      for (int object = 0; object < tiles.objects; object++) {
        if (i % SPARSE == 0 || !(suffix.s[object] instanceof Sketch)) {
          suffixObjects[i * tiles.objects + object] = suffix.s[object];
        }
      }
      Layout.Tile made = suffix;
      suffix = later;
      later = made;
    }
  }

  private void growPrefix(int last) {
    if (prefix == null) {
      prefix = new Layout.Tile(layout);
    }
    for (; end < last; end++) {
      mergeTile(window.kept(), prefix, end);
    }
  }

  /** Counts a row, which has been added to the newest tile, for the percentiles. */
  void count(BufferedRow row) {
    stale = true;
    for (int i = 0; i < quantiles.length; i++) {
      Layout.Slot slot = layout.slot(window.quantiles()[i]);
      if (slot.takes(row)) {
        quantiles[i].add(row.values[slot.column()], null);
      }
    }
  }

  /** The i-th percentile's sketch, of all of the window. */
  Quantiles quantiles(int i) {
    return quantiles[i];
  }

  /** The number of different values in the window, of the i-th distinct count's slot. */
  long distinct(int i) {
    int object = layout.slot(window.distincts()[i]).object();
    int last = tiles.end - 1;
    Object newest = first > last ? null : tiles.s[last * tiles.objects + object];
    long changes = newest == null ? 0 : ((Distinct) newest).changes();
    Union union = unions[i] == null ? unions[i] = new Union() : unions[i];
    if (union.first != first || union.last != last || union.changes != changes) {
      union.first = first;
      union.last = last;
      union.changes = changes;
      Distinct all = (Distinct) all(object);
      union.answer = all == null ? 0 : all.estimate();
    }
    return union.answer;
  }

  /** The newest values in the window, of the i-th such slot; null if there are none. */
  @Nullable
  Newest newest(int i) {
    return (Newest) all(layout.slot(window.newest()[i]).object());
  }

  /** All sketches of one kind in the window as one, in their order; null if there are none. */
  @Nullable
  private Sketch all(int object) {
    Sketch all = null;
    int last = tiles.end - 1;
    int tile = first;
    if (suffixes != null && first < middle) {
      int sparse = suffixFirst + (first - suffixFirst + SPARSE - 1) / SPARSE * SPARSE;
      for (; tile < Math.min(sparse, middle); tile++) {
        all = add(all, tiles.s[tile * tiles.objects + object]);
      }
      if (tile < middle) {
        all = add(all, suffixObjects[(tile - suffixFirst) * tiles.objects + object]);
        tile = middle;
      }
    }
    for (; tile < middle; tile++) {
      all = add(all, tiles.s[tile * tiles.objects + object]);
    }
    if (prefix != null) {
      all = add(all, prefix.s[object]);
      tile = Math.max(tile, end);
    }
    for (; tile <= last; tile++) {
      all = add(all, tiles.s[tile * tiles.objects + object]);
    }
    return all;
  }

  private static Sketch add(@Nullable Sketch all, @Nullable Object more) {
    if (more == null) {
      return all;
    }
    if (all == null) {
      return ((Sketch) more).copy();
    }
    all.merge((Sketch) more);
    return all;
  }
}
