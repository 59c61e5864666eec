package io.headwater.kernel.joins;

import io.headwater.kernel.state.Entries;
import io.headwater.kernel.state.Waiting;
import java.util.function.BiConsumer;
import java.util.function.LongConsumer;
import javax.annotation.Nullable;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.binary.BinaryRowData;

/**
 * A key's timeline in a backend that keeps bytes, for one call of Flink: its events wait apart from
 * it once it is large; see {@link Waiting}.
 */
final class Apart {

  private final Entries<StoredTimeline> entries;
  private final int fingerprint;
  private final int fingerprintOfTypes;
  private final byte[] front;
  @Nullable private final Waiting waiting;
  @Nullable private Timeline timeline;

  Apart(MapView<Integer, StoredTimeline> states, int fingerprint, int fingerprintOfTypes)
      throws Exception {
    this.entries = new Entries<>(states, StoredTimeline::getEncoded, StoredTimeline::new);
    this.fingerprint = fingerprint;
    this.fingerprintOfTypes = fingerprintOfTypes;
    this.front = entries.get(Waiting.FRONT);
    this.waiting = Waiting.of(front);
    if (waiting != null && waiting.fingerprint != fingerprint) {
      throw Timeline.ofOtherColumns();
    }
  }

  /** The versions, and the events that do not wait apart. */
  Timeline timeline() throws Exception {
    if (timeline == null) {
      byte[] written = waiting == null ? front : entries.get(Waiting.BEHIND);
      timeline = written == null ? new Timeline(fingerprint) : Timeline.decode(written);
      timeline.check(fingerprint, fingerprintOfTypes);
    }
    return timeline;
  }

  /** Keeps an event until its time is due. */
  void add(long time, BinaryRowData row, LongConsumer timer) throws Exception {
    if (waiting == null) {
      timeline().addEvent(time, row.copy());
      keep(timer);
      return;
    }
    DataOutputSerializer out = new DataOutputSerializer(row.getSizeInBytes() + 16);
    Timeline.writeEvent(time, row, out);
    if (waiting.add(entries, out, time)) {
      timer.accept(time);
    }
  }

  /** Hands out the events that are due. */
  void advance(long watermark, BiConsumer<BinaryRowData, BinaryRowData> out, LongConsumer timer)
      throws Exception {
    if (waiting != null && waiting.timer > watermark) {
      return; // an earlier timer has done the work of this one
    }
    Timeline timeline = timeline();
    long next = Timeline.FOR_EVER;
    if (waiting != null) {
      next = waiting.take(entries, watermark, timeline::addEvents);
    }
    timeline.advance(watermark, out);
    keep(next, timer);
  }

  /** Keeps the timeline as it has become. */
  void keep(LongConsumer timer) throws Exception {
    keep(waiting == null ? Timeline.FOR_EVER : waiting.timer, timer);
  }

  private void keep(long set, LongConsumer timer) throws Exception {
    Timeline timeline = timeline();
    if (timeline.isEmpty() && (waiting == null || waiting.isEmpty())) {
      entries.states().clear();
      return;
    }
    long next = Math.min(timeline.due(), set);
    if (next != Timeline.FOR_EVER) {
      timer.accept(next);
    }
    Waiting.put(entries, timeline.encode(), waiting, fingerprint, next, Long.MIN_VALUE);
  }
}
