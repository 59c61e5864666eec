package io.headwater.kernel.rolling;

import io.headwater.kernel.state.Entries;
import io.headwater.kernel.state.Waiting;
import java.util.function.Consumer;
import java.util.function.LongConsumer;
import javax.annotation.Nullable;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.RowData;

/** A shard whose rows wait apart from it once it is large; see {@link Waiting}. */
final class Apart {

  private final Keys keys;
  private final DataOutputSerializer out = new DataOutputSerializer(256);

  Apart(Keys keys) {
    this.keys = keys;
  }

  /** Keeps a row, as {@link Keys#add} does. */
  boolean add(MapView<Object, StoredState> states, RowData input, long time, LongConsumer timer)
      throws Exception {
    Entries<StoredState> entries = entries(states);
    byte[] front = entries.get(Waiting.FRONT);
    Waiting waiting = waiting(front);
    if (waiting == null) {
      Shard shard = shard(front);
      if (!keys.add(shard, input, time, timer)) {
        return false;
      }
      put(entries, shard, null, shard.timer);
      return true;
    }
    // Only where a restart has the watermark begin anew.
    if (time <= waiting.handled
        && keys.isHandled(shard(entries.get(Waiting.BEHIND)), input, time)) {
      return false;
    }
    out.clear();
    keys.write(input, time, out);
    if (waiting.add(entries, out, time)) {
      timer.accept(time);
    }
    return true;
  }

  /** Handles what is due up to the watermark, as {@link Keys#advance} does. */
  void advance(
      MapView<Object, StoredState> states,
      long watermark,
      Consumer<RowData> emit,
      LongConsumer timer)
      throws Exception {
    Entries<StoredState> entries = entries(states);
    byte[] front = entries.get(Waiting.FRONT);
    Waiting waiting = waiting(front);
    if (waiting != null && waiting.timer > watermark) {
      return; // an earlier timer has done the work of this one
    }
    Shard shard = shard(waiting == null ? front : entries.get(Waiting.BEHIND));
    if (waiting == null && shard.timer > watermark) {
      return;
    }
    long next = KeyState.NEVER_DUE;
    if (waiting != null) {
      next = waiting.take(entries, watermark, rows -> keys.add(shard, rows));
    }
    keys.advance(shard, watermark, emit, due -> {});
    next = Math.min(next, shard.timer);
    if (next == KeyState.NEVER_DUE && shard.size() == 0) {
      states.clear();
      return;
    }
    if (next != KeyState.NEVER_DUE) {
      timer.accept(next);
    }
    put(entries, shard, waiting, next);
  }

  private static Entries<StoredState> entries(MapView<Object, StoredState> states) {
    return new Entries<>(states, StoredState::getEncoded, StoredState::new);
  }

  @Nullable
  private Waiting waiting(@Nullable byte[] front) {
    Waiting waiting = Waiting.of(front);
    if (waiting != null) {
      keys.check(waiting.fingerprint);
    }
    return waiting;
  }

  private Shard shard(@Nullable byte[] written) {
    Shard shard = written == null ? keys.newShard() : Shard.read(written);
    keys.check(shard);
    return shard;
  }

  private void put(Entries<StoredState> entries, Shard shard, @Nullable Waiting waiting, long timer)
      throws Exception {
    byte[] written = shard.write();
    Waiting.put(entries, written, waiting, keys.fingerprint(), timer, shard.handled());
  }
}
