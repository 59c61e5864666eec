package io.headwater.kernel.rolling;

import io.headwater.kernel.traces.RowTrace;
import java.util.function.Consumer;
import javax.annotation.Nullable;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.JsonNodeFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.flink.table.data.BoxedWrapperRowData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
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

  /** With more tiles than this, or with sketches, a key's windows are kept between calls. */
  private static final int FEW = 8;

  private final Spec spec;
  private final Layout.Tile[] merged;
  private final Layout.Tile[] spare;

  /** What is emitted; used again for each row. */
  private final BoxedWrapperRowData row;

  /** Whether {@link #row} has come to say something else; true while nobody asks. */
  private boolean changed = true;

  /** Whether the lifetime's features in {@link #row} may be others. */
  private boolean lifeIsStale;

  /** The newest sampled row of those applied last. */
  @Nullable private RowTrace applied;

  /** The windows of the keys that keep none. */
  private Fold[] passing;

  Engine(Spec spec) {
    this.spec = spec;
    this.merged = new Layout.Tile[spec.windows.length];
    this.spare = new Layout.Tile[spec.windows.length];
    for (int i = 0; i < spec.windows.length; i++) {
      Layout layout = spec.lanes[spec.windows[i].lane()].layout();
      merged[i] = new Layout.Tile(layout);
      spare[i] = new Layout.Tile(layout);
    }
    passing = newFolds();
    row = new BoxedWrapperRowData(spec.width());
  }

  private Fold[] newFolds() {
    Fold[] folds = new Fold[spec.windows.length];
    for (int i = 0; i < folds.length; i++) {
      folds[i] = new Fold(spec.windows[i], spec.lanes[spec.windows[i].lane()]);
    }
    return folds;
  }

  KeyState newState() {
    KeyState.Tiles[] tiles = new KeyState.Tiles[spec.lanes.length];
    for (int i = 0; i < tiles.length; i++) {
      Layout layout = spec.lanes[i].layout();
      tiles[i] = new KeyState.Tiles(layout.words(), layout.objects(), 2);
    }
    return new KeyState(
        spec.fingerprint, new long[spec.life.words()], new Object[spec.life.objects()], tiles);
  }

  /** Refuses the state of another spec, whose words would mean something else. */
  void check(KeyState state) {
    check(state.fingerprint);
  }

  int fingerprint() {
    return spec.fingerprint;
  }

  /** The same, of what a state was written with. */
  void check(int fingerprint) {
    if (fingerprint != spec.fingerprint) {
      throw new FlinkRuntimeException(
          "rolling: the state was written by a call with other features, columns or windows. "
              + "A changed spec is a changed state: give the call a new uid and replay.");
    }
  }

  /** Keeps what features read of a row until its time is handled. */
  void buffer(KeyState state, RowData row, long time) {
    state.append(read(row, time));
  }

  /** What features read of a row. */
  BufferedRow read(RowData row, long time) {
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
    RowTrace trace =
        spec.trace < 0 || row.isNullAt(spec.trace)
            ? null
            : RowTrace.read(row.getString(spec.trace));
    return new BufferedRow(time, nulls, values, strings, trace);
  }

  /**
   * Handles what the watermark has passed, instant by instant: rows, and tiles that leave their
   * windows. An instant gives one row at the most.
   *
   * @param writes whether the state is written where it {@link #isLittle}
   * @return the next instant at which something is due, {@link KeyState#NEVER_DUE} if there is none
   */
  long advance(KeyState state, long watermark, boolean writes, Consumer<RowData> out) {
    Fold[] folds = state.folds;
    if (folds == null) {
      folds = passing;
      for (int i = 0; i < folds.length; i++) {
        folds[i].attach(state.tiles[spec.windows[i].lane()], state.handled);
      }
    }
    // The row is another key's.
    lifeIsStale = true;
    for (Fold fold : folds) {
      fold.touch();
    }
    state.sort();
    long due = due(state, folds);
    for (; due <= watermark && due != KeyState.NEVER_DUE; due = due(state, folds)) {
      if (state.hasRowAt(due)) {
        apply(state, folds, due);
        update(state, folds, due);
        if (applied != null) {
          row.setNonPrimitiveValue(spec.features.length + 2, applied.applied().text());
        }
        out.accept(row);
      } else {
        expire(state, folds, due, out);
      }
      state.handled = due;
    }
    if (isSmall(state) || writes && isLittle(state)) {
      state.folds = null;
    } else if (state.folds == null) {
      state.folds = folds;
      passing = newFolds();
    }
    return due;
  }

  /** What is emitted, used again for each row: the columns of the key are for others to set. */
  BoxedWrapperRowData row() {
    return row;
  }

  /** Whether so little is kept that its windows are not worth keeping. */
  private static boolean isSmall(KeyState state) {
    for (KeyState.Tiles tiles : state.tiles) {
      if (tiles.first < tiles.end && tiles.objects > 0) {
        return false;
      }
    }
    return hasFewTiles(state);
  }

  private static boolean hasFewTiles(KeyState state) {
    for (KeyState.Tiles tiles : state.tiles) {
      if (tiles.end - tiles.first > FEW) {
        return false;
      }
    }
    return true;
  }

  /** The earliest of the first row's time and the times at which tiles leave their windows. */
  private static long due(KeyState state, Fold[] folds) {
    long due = state.firstRow < state.endRow ? state.rows[state.firstRow].time : KeyState.NEVER_DUE;
    for (Fold fold : folds) {
      due = Math.min(due, fold.leaves());
    }
    return due;
  }

  /** Whether no row waits, and so little is kept that it may as well be bytes. */
  static boolean isLittle(KeyState state) {
    if (state.firstRow < state.endRow) {
      return false;
    }
    for (Object object : state.lifeObjects) {
      if (object instanceof Sketch) {
        return false;
      }
    }
    return hasFewTiles(state);
  }

  private void apply(KeyState state, Fold[] folds, long time) {
    moveTails(state, folds, time);
    openTiles(state, folds, time);
    applied = null;
    lifeIsStale = true;
    do {
      BufferedRow next = state.poll();
      // The state may be from when the stream was traced.
      if (next.trace != null && spec.trace >= 0) {
        applied = next.trace;
      }
      for (int i = 0; i < spec.lanes.length; i++) {
        KeyState.Tiles tiles = state.tiles[i];
        int last = tiles.end - 1;
        Layout layout = spec.lanes[i].layout();
        layout.add(tiles.w, last * tiles.words, tiles.s, last * tiles.objects, next);
      }
      for (Fold fold : folds) {
        fold.count(next);
      }
      spec.life.add(state.life, 0, state.lifeObjects, 0, next);
    } while (state.hasRowAt(time));
  }

  /** The row that says that {@code input} came too late to count. */
  GenericRowData late(RowData input) {
    int width = spec.features.length;
    GenericRowData row = new GenericRowData(spec.width());
    if (!input.isNullAt(spec.time)) {
      row.setField(width, input.getTimestamp(spec.time, 3));
    }
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    for (Spec.Column column : spec.columns) {
      int at = column.position();
      if (!input.isNullAt(at)) {
        switch (column.type()) {
          case BIGINT -> json.put(column.name(), input.getLong(at));
          case DOUBLE -> json.put(column.name(), input.getDouble(at));
          case BOOLEAN -> json.put(column.name(), input.getBoolean(at));
          case STRING -> json.put(column.name(), input.getString(at).toString());
        }
      }
    }
    row.setField(width + 1, StringData.fromString(json.toString()));
    return row;
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

  private void expire(KeyState state, Fold[] folds, long time, Consumer<RowData> out) {
    boolean sure = changesForSure(folds, time);
    if (!sure) {
      update(state, folds, time);
      changed = false;
    }
    moveTails(state, folds, time);
    update(state, folds, time);
    if (changed) {
      out.accept(row);
    }
    changed = true;
  }

  /** Whether a window that counts all rows loses a tile, which always holds one. */
  private boolean changesForSure(Fold[] folds, long time) {
    for (int i = 0; i < folds.length; i++) {
      if (spec.windows[i].countsRows() && folds[i].leaves() <= time) {
        return true;
      }
    }
    return false;
  }

  /** Moves the windows' tails to {@code time}, and forgets the tiles that no window holds now. */
  private void moveTails(KeyState state, Fold[] folds, long time) {
    for (int lane = 0; lane < spec.lanes.length; lane++) {
      boolean moved = false;
      for (int window : spec.windowsOf[lane]) {
        moved |= folds[window].moveTail(time);
      }
      if (moved) {
        KeyState.Tiles tiles = state.tiles[lane];
        int keep = tiles.end;
        for (int window : spec.windowsOf[lane]) {
          keep = Math.min(keep, folds[window].first());
        }
        tiles.dropBefore(keep);
      }
    }
  }

  /** Makes the tile of {@code time} the last one of each lane. */
  private void openTiles(KeyState state, Fold[] folds, long time) {
    for (int lane = 0; lane < spec.lanes.length; lane++) {
      KeyState.Tiles tiles = state.tiles[lane];
      long edge = spec.lanes[lane].tile();
      if (tiles.first < tiles.end && time <= (tiles.index[tiles.end - 1] + 1) * edge) {
        continue;
      }
      int moved = tiles.append(Math.floorDiv(time - 1, edge));
      for (int window : spec.windowsOf[lane]) {
        folds[window].open(moved);
      }
    }
  }

  /**
   * Makes {@link #row} all features as of the last {@link #moveTails}, the time, no late row and no
   * trace. What has not been touched since the call before says what it said.
   */
  private void update(KeyState state, Fold[] folds, long time) {
    for (int i = 0; i < folds.length; i++) {
      if (folds[i].wasStale()) {
        Layout.Tile result = folds[i].merge(merged[i], spare[i]);
        if (result != merged[i]) {
          spare[i] = merged[i];
          merged[i] = result;
        }
        for (int feature : spec.featuresOf[i]) {
          set(feature, folds[i], result);
        }
      }
    }
    if (lifeIsStale) {
      lifeIsStale = false;
      for (int feature : spec.lifetimeFeatures) {
        set(feature, state.life, state.lifeObjects);
      }
    }
    row.setNonPrimitiveValue(spec.features.length, TimestampData.fromEpochMillis(time));
    if (spec.trace >= 0) {
      row.setNullAt(spec.features.length + 2);
    }
  }

  private void set(int i, Fold fold, Layout.Tile merged) {
    Spec.Feature feature = spec.features[i];
    if (feature.sketch() < 0) {
      set(i, merged.w, merged.s);
      return;
    }
    switch (feature.op()) {
      case DISTINCT -> setLong(i, fold.distinct(feature.sketch()));
      case LAST_N -> setNewest(i, fold.newest(feature.sketch()));
      default -> setPercentile(i, fold.quantiles(feature.sketch()));
    }
  }

  private void set(int i, long[] w, Object[] s) {
    Spec.Feature feature = spec.features[i];
    Layout.Slot slot = feature.slot();
    int o = slot.offset();
    long n = w[o];
    switch (feature.op()) {
      case COUNT -> setLong(i, n);
      case DISTINCT -> setLong(i, n == 0 ? 0 : ((Distinct) s[slot.object()]).estimate());
      case PERCENTILE -> setPercentile(i, (Quantiles) s[slot.object()]);
      case LAST_N -> setNewest(i, (Newest) s[slot.object()]);
      default -> {
        if (n == 0) {
          setNull(i);
        } else {
          setSome(i, feature, slot, w, s);
        }
      }
    }
  }

  private void setSome(int i, Spec.Feature feature, Layout.Slot slot, long[] w, Object[] s) {
    int o = slot.offset();
    long n = w[o];
    switch (feature.op()) {
      case MEAN ->
          setDouble(
              i,
              (slot.type() == ColumnType.DOUBLE ? Double.longBitsToDouble(w[o + 1]) : w[o + 1])
                  / n);
      case VARIANCE -> setDouble(i, Double.longBitsToDouble(w[o + 2]) / n);
      case STDDEV -> setDouble(i, Math.sqrt(Double.longBitsToDouble(w[o + 2]) / n));
      case SHARE -> setDouble(i, (double) w[o + 1] / n);
      default -> {
        switch (slot.type()) {
          case BIGINT -> setLong(i, w[o + 1]);
          case DOUBLE -> setDouble(i, Double.longBitsToDouble(w[o + 1]));
          case BOOLEAN -> setBoolean(i, w[o + 1] != 0);
          case STRING -> setObject(i, s[slot.object()]);
        }
      }
    }
  }

  private void setNewest(int i, @Nullable Newest sketch) {
    if (sketch == null) {
      setNull(i);
    } else {
      setObject(i, sketch.json(spec.features[i].slot().type()));
    }
  }

  private void setPercentile(int i, Quantiles sketch) {
    if (sketch == null || sketch.isEmpty()) {
      setNull(i);
    } else {
      setDouble(i, sketch.at(spec.features[i].parameter()));
    }
  }

  private void setNull(int i) {
    changed = changed || !row.isNullAt(i);
    row.setNullAt(i);
  }

  private void setLong(int i, long value) {
    changed = changed || row.isNullAt(i) || row.getLong(i) != value;
    row.setLong(i, value);
  }

  private void setDouble(int i, double value) {
    changed = changed || row.isNullAt(i) || Double.compare(row.getDouble(i), value) != 0;
    row.setDouble(i, value);
  }

  private void setBoolean(int i, boolean value) {
    changed = changed || row.isNullAt(i) || row.getBoolean(i) != value;
    row.setBoolean(i, value);
  }

  private void setObject(int i, Object value) {
    changed = changed || row.isNullAt(i) || !row.getString(i).equals(value);
    row.setNonPrimitiveValue(i, value);
  }
}
