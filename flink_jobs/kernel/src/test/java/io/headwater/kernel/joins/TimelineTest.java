package io.headwater.kernel.joins;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.UncheckedIOException;
import java.util.HexFormat;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.util.FlinkRuntimeException;
import org.junit.jupiter.api.Test;

/** What the generated runs of {@code tests/test_joins.py} do not look at. */
class TimelineTest {

  private static final LogicalType[] TYPES = {DataTypes.BIGINT().getLogicalType()};

  private final Timeline timeline = new Timeline(7);

  private static BinaryRowData row(Long value) {
    return new RowDataSerializer(TYPES).toBinaryRow(GenericRowData.of(value)).copy();
  }

  private boolean add(long since, BinaryRowData row, long watermark) {
    return timeline.addVersion(since, Timeline.FOR_EVER, row, null, watermark);
  }

  @Test
  void aVersionAtTheEndOfTimeIsInNobodysWay() {
    long since = Long.MAX_VALUE;
    timeline.addVersion(since, since + 3_600_000, row(1L), null, 0);
    timeline.addEvent(30, row(5L));
    assertEquals(30, timeline.due());
    timeline.advance(30, (event, found) -> assertNull(found));
    assertEquals(Timeline.FOR_EVER, timeline.due());
  }

  @Test
  void stateIsReadBackAsItWasWritten() {
    add(10, row(1L), 0);
    add(20, null, 0);
    timeline.addVersion(15, 18, row(null), null, 0);
    timeline.addEvent(30, row(5L));
    Timeline read = Timeline.decode(timeline.encode());
    assertArrayEquals(timeline.encode(), read.encode());
    assertEquals(row(1L), read.at(14));
    assertEquals(row(null), read.at(18));
    assertNull(read.at(19));
    assertNull(read.at(20));
    read.check(7, 5);
    assertThrows(FlinkRuntimeException.class, () -> read.check(8, 7));
  }

  @Test
  void stateOfTheFirstVersionKnewTheTypesAloneAndIsOfTheColumnsFromThenOn() {
    byte[] deletedSinceTen =
        HexFormat.of()
            .parseHex("0100000007" + "00000001000000000000000a7fffffffffffffffffff" + "00000000");
    assertThrows(FlinkRuntimeException.class, () -> Timeline.decode(deletedSinceTen).check(7, 5));
    Timeline read = Timeline.decode(deletedSinceTen);
    assertArrayEquals(deletedSinceTen, read.encode());
    read.check(9, 7);
    read.check(9, 7);
    Timeline written = Timeline.decode(read.encode());
    written.check(9, 0);
    assertThrows(FlinkRuntimeException.class, () -> written.check(7, 7));
    assertFalse(written.isEmpty());
  }

  @Test
  void columnsOfOneTypeInAnotherOrderAreOthers() {
    TemporalJoin.Columns columns = columns("wind_speed", "visib");
    TemporalJoin.Columns swapped = columns("visib", "wind_speed");
    assertEquals(columns.fingerprint(), columns("wind_speed", "visib").fingerprint());
    assertNotEquals(columns.fingerprint(), swapped.fingerprint());
    assertEquals(columns.fingerprintOfTypes(), swapped.fingerprintOfTypes());
    // As kernels that wrote version 1 made it.
    assertEquals("[BIGINT][BIGINT, BIGINT]".hashCode(), columns.fingerprintOfTypes());
  }

  private static TemporalJoin.Columns columns(String... names) {
    LogicalType[] types = {TYPES[0], TYPES[0]};
    return new TemporalJoin.Columns(
        RowType.of(TYPES, new String[] {"rowtime"}),
        0,
        new int[] {0},
        RowType.of(types, names),
        false);
  }

  @Test
  void stateOfALaterKernelIsRefused() {
    byte[] bytes = timeline.encode();
    bytes[0]++;
    assertThrows(UncheckedIOException.class, () -> Timeline.decode(bytes));
  }

  @Test
  void aVersionTakesTwentyTwoBytesAndItsRow() {
    int empty = timeline.encode().length;
    add(10, row(1L), 0);
    assertEquals(22 + row(1L).getSizeInBytes(), timeline.encode().length - empty);
  }

  @Test
  void onlyWhatALaterEventCanNeedIsKept() {
    for (long since = 0; since < 10; since++) {
      add(since, row(since), -1);
    }
    assertEquals(1, timeline.due());
    timeline.advance(8, (event, row) -> {});
    assertEquals(row(8L), timeline.at(8));
    assertNull(timeline.at(7));
    assertEquals(9, timeline.due());
    timeline.advance(9, (event, row) -> {});
    assertEquals(Timeline.FOR_EVER, timeline.due());
  }

  @Test
  void anOlderVersionThatComesLateDoesNotUndoADeletion() {
    add(10, null, 20);
    assertTrue(add(5, row(1L), 20));
    assertNull(timeline.at(21));
    assertFalse(timeline.isEmpty());
  }

  @Test
  void theSameRowAgainIsNotLate() {
    add(10, row(1L), 0);
    assertFalse(add(10, row(1L), 20));
    assertTrue(add(10, row(2L), 20));
  }
}
