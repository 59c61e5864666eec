package io.headwater.kernel.rolling;

import java.util.Arrays;
import java.util.function.Consumer;
import java.util.function.LongConsumer;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.util.FlinkRuntimeException;

/**
 * The semantics of rolling features, without Flink's operator around it.
 *
 * <p>A tile of edge {@code e} with index {@code k} holds the events with time in {@code (k*e,
 * (k+1)*e]}. The window of size {@code s} at {@code t} holds the tiles from {@code floor((t-s)/e)}
 * on, that is the events in {@code (floor((t-s)/e)*e, t]}. A value is the merge of the window's
 * tiles from left to right, hence a function of the window's rows alone.
 */
final class Engine {

  private final Spec spec;
  private final long[][] merged;
  private final Object[][] mergedObjects;

  Engine(Spec spec) {
    this.spec = spec;
    this.merged = new long[spec.windows.length][];
    this.mergedObjects = new Object[spec.windows.length][];
    for (int i = 0; i < spec.windows.length; i++) {
      Layout layout = spec.lanes[spec.windows[i].lane()].layout();
      merged[i] = new long[layout.words()];
      mergedObjects[i] = new Object[layout.objects()];
    }
  }

  KeyState newState() {
    KeyState.Tiles[] tiles = new KeyState.Tiles[spec.lanes.length];
    for (int i = 0; i < tiles.length; i++) {
      Layout layout = spec.lanes[i].layout();
      tiles[i] = new KeyState.Tiles(layout.words(), layout.objects(), 2);
    }
    long[] lastTiles = new long[spec.lanes.length];
    Arrays.fill(lastTiles, KeyState.NEVER);
    return new KeyState(
        spec.fingerprint,
        lastTiles,
        new long[spec.life.words()],
        new Object[spec.life.objects()],
        tiles);
  }

  /** Refuses the state of another spec, whose words would mean something else. */
  void check(KeyState state) {
    if (state.fingerprint != spec.fingerprint) {
      throw new FlinkRuntimeException(
          "rolling: the state was written by a call with other features, columns or windows. "
              + "A changed spec is a changed state: give the call a new uid and replay.");
    }
  }

  /**
   * Keeps what features read of a row until its time is handled.
   *
   * @param timers is given the instants at which the row changes values: its own time, and the
   *     times at which its tiles leave their windows. All of them are after the watermark, whereas
   *     instants found only when a row is handled may not be: Flink ignores timers that the
   *     watermark passed.
   */
  void buffer(KeyState state, RowData row, long time, LongConsumer timers) {
    if (time != state.lastBuffered) {
      state.lastBuffered = time;
      timers.accept(time);
      for (int i = 0; i < spec.lanes.length; i++) {
        long edge = spec.lanes[i].tile();
        long tile = Math.floorDiv(time - 1, edge);
        if (tile != state.lastTiles[i]) {
          state.lastTiles[i] = tile;
          for (Spec.Window window : spec.windows) {
            if (window.lane() == i) {
              timers.accept((tile + 1) * edge + window.size());
            }
          }
        }
      }
    }
    Spec.Column[] columns = spec.columns;
    long nulls = 0;
    long[] values = new long[columns.length];
    StringData[] strings = spec.hasStrings ? new StringData[columns.length] : null;
    for (int i = 0; i < columns.length; i++) {
      int at = columns[i].position();
      if (row.isNullAt(at)) {
        nulls |= 1L << i;
        continue;
      }
      switch (columns[i].type()) {
        case BIGINT -> values[i] = row.getLong(at);
        case DOUBLE -> values[i] = Double.doubleToLongBits(row.getDouble(at));
        case BOOLEAN -> values[i] = row.getBoolean(at) ? 1 : 0;
        case STRING -> strings[i] = ((BinaryStringData) row.getString(at)).copy();
      }
    }
    state.append(new BufferedRow(time, nulls, values, strings));
  }

  /** Handles what is due at one instant: expired tiles and buffered rows. Emits at most one row. */
  void handle(KeyState state, long time, Consumer<RowData> out) {
    if (state.folds == null) {
      state.folds = newFolds(state);
    }
    state.sort();
    BufferedRow row = state.poll(time);
    if (row == null) {
      expire(state, time, out);
    } else {
      advance(state, time);
      openTiles(state, time);
      for (; row != null; row = state.poll(time)) {
        for (int i = 0; i < spec.lanes.length; i++) {
          KeyState.Tiles tiles = state.tiles[i];
          int last = tiles.end - 1;
          spec.lanes[i]
              .layout()
              .add(tiles.w, last * tiles.words, tiles.s, last * tiles.objects, row);
        }
        spec.life.add(state.life, 0, state.lifeObjects, 0, row);
      }
      out.accept(values(state));
    }
    state.handled = time;
  }

  /** Whether nothing is left to remember. */
  boolean isEmpty(KeyState state) {
    if (spec.life.words() > 0 || state.firstRow < state.endRow) {
      return false;
    }
    for (KeyState.Tiles tiles : state.tiles) {
      if (tiles.first < tiles.end) {
        return false;
      }
    }
    return true;
  }

  private KeyState.Fold[] newFolds(KeyState state) {
    KeyState.Fold[] folds = new KeyState.Fold[spec.windows.length];
    for (int i = 0; i < folds.length; i++) {
      Spec.Window window = spec.windows[i];
      KeyState.Tiles tiles = state.tiles[window.lane()];
      folds[i] = new KeyState.Fold(tiles.words, tiles.objects, tiles.first);
      if (state.handled != KeyState.NEVER) {
        folds[i].restart(start(window, tiles, tiles.first, state.handled));
      }
    }
    return folds;
  }

  /** Position of the first tile at or after {@code from} that the window holds at {@code time}. */
  private int start(Spec.Window window, KeyState.Tiles tiles, int from, long time) {
    long low = Math.floorDiv(time - window.size(), spec.lanes[window.lane()].tile());
    int position = from;
    while (position < tiles.end && tiles.index[position] < low) {
      position++;
    }
    return position;
  }

  private void expire(KeyState state, long time, Consumer<RowData> out) {
    GenericRowData before = values(state);
    if (advance(state, time)) {
      GenericRowData after = values(state);
      if (!after.equals(before)) {
        out.accept(after);
      }
    }
  }

  /** Moves the windows' tails to {@code time}; whether any tile left a window. */
  private boolean advance(KeyState state, long time) {
    boolean moved = false;
    int[] keep = new int[spec.lanes.length];
    Arrays.fill(keep, Integer.MAX_VALUE);
    for (int i = 0; i < spec.windows.length; i++) {
      Spec.Window window = spec.windows[i];
      KeyState.Fold fold = state.folds[i];
      int start = start(window, state.tiles[window.lane()], fold.first, time);
      if (start != fold.first) {
        fold.restart(start);
        moved = true;
      }
      keep[window.lane()] = Math.min(keep[window.lane()], start);
    }
    for (int i = 0; i < keep.length; i++) {
      if (keep[i] > state.tiles[i].first) {
        state.tiles[i].dropBefore(keep[i]);
      }
    }
    return moved;
  }

  /** Makes the tile of {@code time} the last one of each lane. */
  private void openTiles(KeyState state, long time) {
    for (int i = 0; i < spec.lanes.length; i++) {
      KeyState.Tiles tiles = state.tiles[i];
      long index = Math.floorDiv(time - 1, spec.lanes[i].tile());
      if (tiles.first < tiles.end && tiles.index[tiles.end - 1] == index) {
        continue;
      }
      int moved = tiles.append(index);
      if (moved > 0) {
        for (int j = 0; j < spec.windows.length; j++) {
          if (spec.windows[j].lane() == i) {
            state.folds[j].first -= moved;
            state.folds[j].end -= moved;
          }
        }
      }
    }
  }

  /** The values of all features as of the last {@link #advance}. */
  private GenericRowData values(KeyState state) {
    for (int i = 0; i < spec.windows.length; i++) {
      Spec.Window window = spec.windows[i];
      KeyState.Fold fold = state.folds[i];
      KeyState.Tiles tiles = state.tiles[window.lane()];
      Layout layout = spec.lanes[window.lane()].layout();
      int last = tiles.end - 1;
      for (; fold.end < last; fold.end++) {
        merge(layout, window, fold.w, fold.s, tiles, fold.end);
      }
      System.arraycopy(fold.w, 0, merged[i], 0, fold.w.length);
      for (int j = 0; j < fold.s.length; j++) {
        // The newest tile will be merged into the sketch, which must not reach the fold's.
        mergedObjects[i][j] = fold.s[j] instanceof Sketch sketch ? sketch.copy() : fold.s[j];
      }
      if (fold.first <= last) {
        merge(layout, window, merged[i], mergedObjects[i], tiles, last);
      }
    }
    GenericRowData row = new GenericRowData(spec.features.length);
    for (int i = 0; i < spec.features.length; i++) {
      Spec.Feature feature = spec.features[i];
      int window = feature.window();
      row.setField(
          i,
          window < 0
              ? value(feature, state.life, state.lifeObjects)
              : value(feature, merged[window], mergedObjects[window]));
    }
    return row;
  }

  private static void merge(
      Layout layout,
      Spec.Window window,
      long[] into,
      Object[] intoObjects,
      KeyState.Tiles tiles,
      int tile) {
    layout.merge(
        window.slots(),
        into,
        intoObjects,
        tiles.w,
        tile * tiles.words,
        tiles.s,
        tile * tiles.objects);
  }

  private static Object value(Spec.Feature feature, long[] w, Object[] s) {
    Layout.Slot slot = feature.slot();
    int o = slot.offset();
    long n = w[o];
    if (feature.op() == Spec.Op.COUNT) {
      return n;
    }
    if (feature.op() == Spec.Op.DISTINCT) {
      return n == 0 ? 0L : ((Distinct) s[slot.object()]).estimate();
    }
    if (n == 0) {
      return null;
    }
    return switch (feature.op()) {
      case MEAN ->
          (slot.type() == ColumnType.DOUBLE ? Double.longBitsToDouble(w[o + 1]) : w[o + 1]) / n;
      case VARIANCE -> Double.longBitsToDouble(w[o + 2]) / n;
      case SHARE -> (double) w[o + 1] / n;
      case PERCENTILE -> ((Quantiles) s[slot.object()]).at(feature.parameter(), n);
      case LAST_N -> ((Newest) s[slot.object()]).json(slot.type());
      case STDDEV -> Math.sqrt(Double.longBitsToDouble(w[o + 2]) / n);
      default ->
          switch (slot.type()) {
            case BIGINT -> (Object) w[o + 1];
            case DOUBLE -> Double.longBitsToDouble(w[o + 1]);
            case BOOLEAN -> w[o + 1] != 0;
            case STRING -> s[slot.object()];
          };
    };
  }
}
