package io.headwater.kernel.joins;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.headwater.kernel.kafka.LogEnd;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkOutputMultiplexer;
import org.junit.jupiter.api.Test;

/** As Flink's sources use it: through the output that combines a source's partitions. */
class CatchUpTest {

  private final StringBuilder told = new StringBuilder();
  private final WatermarkOutputMultiplexer source =
      new WatermarkOutputMultiplexer(
          new WatermarkOutput() {
            @Override
            public void emitWatermark(Watermark watermark) {
              told.append('h');
            }

            @Override
            public void markIdle() {
              told.append('i');
            }

            @Override
            public void markActive() {}
          });
  private long now = 1_000_000;
  private long blocked;
  private long left = LogEnd.UNTOLD;
  private final CatchUp first = partition("0");
  private final CatchUp second = partition("1");

  private CatchUp partition(String id) {
    source.registerNewOutput(id);
    return new CatchUp(() -> now, () -> now - blocked, () -> left);
  }

  private void read(CatchUp partition, String id, long age) {
    partition.onEvent(null, now - age, source.getImmediateOutput(id));
  }

  /** What the source says after `seconds` more. */
  private char after(long seconds) {
    now += seconds * 1000;
    told.setLength(0);
    first.onPeriodicEmit(source.getDeferredOutput("0"));
    second.onPeriodicEmit(source.getDeferredOutput("1"));
    source.onPeriodicEmit();
    return told.charAt(told.length() - 1);
  }

  @Test
  void itHoldsUntilTheFirstRecordOrForThirtySeconds() {
    assertEquals('h', after(0));
    assertEquals('h', after(29));
    assertEquals('i', after(1));
  }

  @Test
  void itHoldsWhileRecordsAreOldAndLetsGoWhenTheyAreNew() {
    after(0);
    read(first, "0", 3_600_000);
    read(second, "1", 5);
    assertEquals('h', after(1));
    read(first, "0", 5);
    assertEquals('i', after(1));
  }

  @Test
  void itLetsGoWhenNothingComesAnyMore() {
    after(0);
    read(first, "0", 3_600_000);
    read(second, "1", 3_600_000);
    assertEquals('h', after(9));
    assertEquals('i', after(1));
  }

  @Test
  void itBearsMoreSilenceWhereMuchIsStillToCome() {
    left = 101;
    after(0);
    assertEquals('h', after(30));
    read(first, "0", 3_600_000);
    read(second, "1", 3_600_000);
    assertEquals('h', after(119));
    assertEquals('i', after(1));
    // What is left may be marks of transactions alone.
    read(first, "0", 3_600_000);
    left = 100;
    assertEquals('h', after(9));
    assertEquals('i', after(1));
  }

  @Test
  void itHoldsAgainAtOnceWhenAnOldRecordComes() {
    after(0);
    assertEquals('i', after(30));
    told.setLength(0);
    read(first, "0", 3_600_000);
    assertEquals("h", told.toString());
    read(second, "1", 5);
    assertEquals('h', after(5));
    assertEquals('i', after(6));
  }

  @Test
  void newsAloneHoldNothing() {
    after(0);
    for (int i = 0; i < 100; i++) {
      read(first, "0", 50);
      read(second, "1", 50);
      assertEquals('i', after(1));
    }
  }

  @Test
  void newsHoldWhileTheLogHasMoreOfWhatItHeldAtFirst() {
    after(0);
    assertEquals('i', after(130)); // nobody knows yet
    left = 1000;
    while (left > 0) {
      read(first, "0", 50);
      read(second, "1", -1_800_000);
      assertEquals('h', after(1));
      left -= 10;
    }
    assertEquals('i', after(1));
    newsAloneHoldNothing();
  }

  @Test
  void newsHoldNothingForWhatIsNeverReadOfTheLog() {
    left = 5;
    after(0);
    StringBuilder said = new StringBuilder();
    for (int i = 0; i < 20; i++) {
      read(first, "0", 50);
      read(second, "1", 50);
      said.append(after(1));
    }
    assertEquals("h".repeat(9) + "i".repeat(11), said.toString());
  }

  @Test
  void itWaitsForNoRecordWhereThereIsNone() {
    assertEquals('h', after(0));
    left = 0;
    assertEquals('i', after(1));
  }

  @Test
  void itLetsGoAtTheEndOfTheLogAndHoldsWhatIsOldAfterIt() {
    after(0);
    read(first, "0", 3_600_000);
    assertEquals('h', after(1));
    left = 0;
    assertEquals('i', after(1));
    read(first, "0", 3_600_000);
    assertEquals('h', after(9));
    assertEquals('i', after(1));
  }

  /** What the source says at last, after so many records of both that came 15 s late. */
  private char afterLate(int records) {
    char said = 0;
    for (int i = 0; i < records; i++) {
      read(first, "0", 15_000);
      read(second, "1", 15_000);
      said = after(5);
    }
    return said;
  }

  @Test
  void aSteadyFlowThatIsAlwaysLateHoldsNothingForEver() {
    left = 0;
    assertEquals('i', after(0));
    assertEquals('h', afterLate(23));
    assertEquals('i', afterLate(1));
    assertEquals('i', afterLate(100));
    // What is late after news is held for again.
    read(first, "0", 5);
    read(first, "0", 15_000);
    assertEquals('h', after(1));
  }

  @Test
  void whereTheLogsEndIsNotKnownTheFirstFlowIsReadToItsEnd() {
    after(0);
    assertEquals('h', afterLate(100));
    assertEquals('i', after(30));
    assertEquals('h', afterLate(23));
    assertEquals('i', afterLate(1));
  }

  @Test
  void whatTheLogHeldAtFirstIsHeldForHoweverLongItTakes() {
    left = 1000;
    after(0);
    assertEquals('h', afterLate(100));
    assertEquals('i', after(120));
    assertEquals('h', afterLate(100));
    left = 0;
    assertEquals('i', after(1));
  }

  @Test
  void whileTheReaderMayNotReadItsLogIsNotSilent() {
    after(0);
    blocked += 100_000;
    assertEquals('h', after(100));
    read(first, "0", 3_600_000);
    read(second, "1", 3_600_000);
    assertEquals('h', after(9));
    blocked += 100_000;
    assertEquals('h', after(100));
    assertEquals('i', after(1));
  }
}
