package io.headwater.kernel.joins;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.util.FlinkRuntimeException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Events that wait apart from their timeline, beside a timeline that has all of them. */
class ApartTest {

  private static final int COLUMNS = 7;
  private static final RowDataSerializer ROWS =
      new RowDataSerializer(new BigIntType(), new VarCharType());

  private static BinaryRowData row(long value) {
    GenericRowData row = GenericRowData.of(value, StringData.fromString("a value " + value));
    return ROWS.toBinaryRow(row).copy();
  }

  private static String text(BinaryRowData event, BinaryRowData version) {
    return event.getString(1) + " with " + (version == null ? null : version.getString(1));
  }

  /** Bytes, as RocksDB keeps them: what was got is no part of it. */
  private static final class Written extends MapView<Integer, StoredTimeline> {

    @Override
    public StoredTimeline get(Integer key) throws Exception {
      StoredTimeline found = super.get(key);
      return found == null ? null : new StoredTimeline(found.getEncoded().clone());
    }

    @Override
    public void put(Integer key, StoredTimeline state) throws Exception {
      super.put(key, new StoredTimeline(state.getEncoded().clone()));
    }
  }

  private static Apart apart(Written states) throws Exception {
    return new Apart(states, COLUMNS, COLUMNS);
  }

  /** Bursts that make it large and pauses that make it small; times are each there once. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 4})
  void itHandsOutWhatATimelineHandsOut(int seed) throws Exception {
    Random random = new Random(seed);
    Timeline whole = new Timeline(COLUMNS);
    Written states = new Written();
    TreeSet<Long> timers = new TreeSet<>();
    List<String> expected = new ArrayList<>();
    List<String> found = new ArrayList<>();
    TreeSet<Long> times = new TreeSet<>();
    long now = 0;
    long watermark = Long.MIN_VALUE;
    int most = 0;
    for (int step = 0; step < 20_000; step++) {
      now += step / 2_000 % 2 == 0 ? random.nextInt(4) : random.nextInt(400);
      long time = now - random.nextInt(300);
      if (random.nextInt(20) == 0) {
        boolean late = whole.addVersion(time, Timeline.FOR_EVER, row(-step), null, watermark);
        Apart known = apart(states);
        assertEquals(
            late,
            known.timeline().addVersion(time, Timeline.FOR_EVER, row(-step), null, watermark));
        known.keep(timers::add);
      } else if (time > watermark && times.add(time)) {
        whole.addEvent(time, row(step));
        apart(states).add(time, row(step), timers::add);
      } else if (time <= watermark) {
        assertEquals(whole.at(time), apart(states).timeline().at(time));
      }
      if (random.nextInt(40) == 0) {
        watermark = Math.max(watermark, now - 2_000);
        whole.advance(watermark, (event, version) -> expected.add(text(event, version)));
        while (!timers.isEmpty() && timers.first() <= watermark) {
          timers.pollFirst();
          apart(states)
              .advance(watermark, (event, version) -> found.add(text(event, version)), timers::add);
        }
        assertEquals(expected, found, "at " + watermark);
        expected.clear();
        found.clear();
      }
      most = Math.max(most, entries(states));
    }
    assertTrue(most > 4, "it was large");
  }

  @Test
  void itIsATimelineAgainWhenItIsSmall() throws Exception {
    Written states = new Written();
    IntStream.range(0, 1_000).forEach(n -> add(states, n));
    assertTrue(entries(states) > 2);
    apart(states).advance(998, (event, version) -> {}, timer -> {});
    assertEquals(1, entries(states));
    apart(states).advance(999, (event, version) -> {}, timer -> {});
    assertEquals(0, entries(states));
  }

  @Test
  void eventsOfOtherColumnsAreRefused() {
    Written states = new Written();
    IntStream.range(0, 1_000).forEach(n -> add(states, n));
    String told =
        assertThrows(FlinkRuntimeException.class, () -> new Apart(states, COLUMNS + 1, COLUMNS + 1))
            .getMessage();
    assertTrue(told.contains("by a call with other columns"), told);
  }

  private static void add(Written states, int n) {
    try {
      apart(states).add(n, row(n), timer -> {});
    } catch (Exception e) {
      throw new AssertionError(e);
    }
  }

  private static int entries(Written states) throws Exception {
    int entries = 0;
    for (Integer ignored : states.keys()) {
      entries++;
    }
    return entries;
  }
}
