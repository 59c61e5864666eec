package io.headwater.kernel.rolling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.util.FlinkRuntimeException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Rows that wait apart from their shard, beside a shard that has all of them. */
class ApartTest {

  private static final RowType INPUT =
      RowType.of(
          new LogicalType[] {new VarCharType(), new BigIntType(), new LocalZonedTimestampType(3)},
          new String[] {"s", "i", "rowtime"});

  private static Keys keys(int window) {
    return new Keys(
        Spec.parse(
            """
            {"time": "rowtime", "keys": ["s"], "features": [
              {"name": "n", "op": "count", "window_ms": %d, "tile_ms": 10},
              {"name": "last", "op": "last", "column": "i", "window_ms": %d, "tile_ms": 10}]}"""
                .formatted(window, window),
            INPUT),
        Shards.OF_EACH,
        0);
  }

  private static RowData row(String key, long value, long time) {
    return GenericRowData.of(
        StringData.fromString(key), value, TimestampData.fromEpochMillis(time));
  }

  /** Bytes, as RocksDB keeps them: what was got is no part of it. */
  private static final class Written extends MapView<Object, StoredState> {

    /** Bytes that were read and written. */
    long moved;

    @Override
    public StoredState get(Object key) throws Exception {
      StoredState found = super.get(key);
      if (found == null) {
        return null;
      }
      moved += found.getEncoded().length;
      return new StoredState(found.getEncoded().clone());
    }

    @Override
    public void put(Object key, StoredState state) throws Exception {
      moved += state.getEncoded().length;
      super.put(key, new StoredState(state.getEncoded().clone()));
    }

    int count() throws Exception {
      int entries = 0;
      for (Object ignored : keys()) {
        entries++;
      }
      return entries;
    }
  }

  /** One of the two: it takes rows, and says what comes out. */
  private abstract static class Side {

    final TreeSet<Long> timers = new TreeSet<>();
    final List<String> out = new ArrayList<>();

    abstract boolean add(RowData row, long time) throws Exception;

    abstract void advance(long watermark) throws Exception;

    /** As Flink does, a timer after the other. */
    void fire(long watermark) throws Exception {
      while (!timers.isEmpty() && timers.first() <= watermark) {
        timers.pollFirst();
        advance(watermark);
      }
    }

    void take(RowData row) {
      out.add(
          "%s %d %d %s"
              .formatted(
                  row.getString(4),
                  row.getTimestamp(2, 3).getMillisecond(),
                  row.getLong(0),
                  row.isNullAt(1) ? null : row.getLong(1)));
    }
  }

  private static final class Whole extends Side {
    private final Keys keys = keys(5000);
    private final Shard shard = keys.newShard();

    @Override
    boolean add(RowData row, long time) {
      return keys.add(shard, row, time, timers::add);
    }

    @Override
    void advance(long watermark) {
      keys.advance(shard, watermark, this::take, timers::add);
    }
  }

  private static final class InParts extends Side {
    private final Apart apart = new Apart(keys(5000));
    private final Written states = new Written();

    @Override
    boolean add(RowData row, long time) throws Exception {
      return apart.add(states, row, time, timers::add);
    }

    @Override
    void advance(long watermark) throws Exception {
      apart.advance(states, watermark, this::take, timers::add);
    }
  }

  /** Bursts that make it large and pauses that make it small, rows out of order, and restarts. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 4, 5, 6})
  void itSaysWhatAShardSays(int seed) throws Exception {
    Random random = new Random(seed);
    Whole whole = new Whole();
    InParts parts = new InParts();
    long now = 0;
    long watermark = Long.MIN_VALUE;
    int late = 0;
    int most = 0;
    for (int step = 0; step < 20_000; step++) {
      boolean burst = step / 2_000 % 2 == 0;
      now += burst ? random.nextInt(3) : random.nextInt(400);
      long time = now - random.nextInt(random.nextInt(50) == 0 ? 3_000 : 300);
      RowData row = row("k" + random.nextInt(2), step, time);
      if (time > watermark) {
        boolean inTime = whole.add(row, time);
        assertEquals(inTime, parts.add(row, time), "row " + step);
        late += inTime ? 0 : 1;
      }
      if (random.nextInt(40) == 0) {
        watermark = Math.max(watermark, now - 2_000);
        whole.fire(watermark);
        parts.fire(watermark);
        assertEquals(whole.out, parts.out, "at " + watermark);
        whole.out.clear();
        parts.out.clear();
      }
      if (random.nextInt(1_000) == 0 && watermark > 0) {
        // A restart: the watermark begins anew, rows come again, and what was handled stays so.
        for (int i = 0; i < 20; i++) {
          long again = watermark - random.nextInt(100);
          RowData known = row("k" + i % 2, i, again);
          boolean inTime = whole.add(known, again);
          assertEquals(inTime, parts.add(known, again), "row " + step + " again");
          late += inTime ? 0 : 1;
        }
        watermark = Long.MIN_VALUE;
      }
      most = Math.max(most, parts.states.count());
    }
    assertTrue(late > 0, "rows that only the state knows to be late");
    assertTrue(most > 4, "it was large");
    whole.fire(Long.MAX_VALUE - 1);
    parts.fire(Long.MAX_VALUE - 1);
    assertEquals(whole.out, parts.out);
    assertEquals(0, parts.states.count(), "nothing is left to remember");
  }

  @Test
  void aRowCostsWhatItTakesItself() throws Exception {
    InParts parts = new InParts();
    for (int n = 0; n < 50_000; n++) {
      parts.add(row("k", n, n), n);
    }
    parts.states.moved = 0;
    for (int n = 50_000; n < 51_000; n++) {
      parts.add(row("k", n, n), n);
    }
    assertTrue(parts.states.moved < 1_000 * 32_000, parts.states.moved + " bytes");
  }

  @Test
  void itIsAShardAgainWhenItIsSmall() throws Exception {
    InParts parts = new InParts();
    for (int n = 0; n < 5_000; n++) {
      parts.add(row("k", n, n), n);
    }
    assertTrue(parts.states.count() > 2);
    parts.fire(9_000);
    assertEquals(1, parts.states.count());
    assertEquals(1, Shard.read(parts.states.get(1).getEncoded()).size());
  }

  @Test
  void rowsThatAnotherSpecLeftAreRefused() throws Exception {
    InParts parts = new InParts();
    for (int n = 0; n < 5_000; n++) {
      parts.add(row("k", n, n), n);
    }
    Apart other = new Apart(keys(6000));
    String told =
        assertThrows(
                FlinkRuntimeException.class,
                () -> other.add(parts.states, row("k", 1, 9_000), 9_000, timer -> {}))
            .getMessage();
    assertTrue(told.contains("give the call a new uid and replay"), told);
  }
}
