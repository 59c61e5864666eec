package io.headwater.kernel.rolling;

import java.util.function.Consumer;
import java.util.function.LongConsumer;
import javax.annotation.Nullable;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.RowData;

/**
 * A shard in a backend that reads and writes it whole at each access, as RocksDB does.
 *
 * <p>Once it is large, the rows that come wait apart from it, in chunks of their own: a row costs
 * what it takes itself, and not all that its key holds. When the first row of a chunk is due, the
 * chunk's rows go to the shard. What a row has to know of the shard is in a {@link Waiting}, which
 * has the shard's place then.
 */
final class Apart {

  /**
   * Bytes of a shard from which on rows wait apart; below half of it they do no more. To read and
   * write so much costs about as much as the seven accesses that it takes a row to wait apart.
   */
  private static final int LARGE = 16 << 10;

  /** Where the shard is, or what waits apart from it. */
  private static final Object FRONT = 1;

  /** Where the shard is then. */
  private static final Object BEHIND = 0;

  private static final int FIRST_CHUNK = 2;

  /** Bytes: what is read and written for each row against how many chunks there are. */
  private static final int FULL = 4096;

  private final Keys keys;
  private final DataOutputSerializer out = new DataOutputSerializer(256);

  Apart(Keys keys) {
    this.keys = keys;
  }

  /** Keeps a row, as {@link Keys#add} does. */
  boolean add(MapView<Object, StoredState> states, RowData input, long time, LongConsumer timer)
      throws Exception {
    StoredState front = states.get(FRONT);
    Waiting waiting = waiting(front);
    if (waiting == null) {
      Shard shard = shard(front);
      if (!keys.add(shard, input, time, timer)) {
        return false;
      }
      put(states, shard, null);
      return true;
    }
    // Only where a restart has the watermark begin anew.
    if (time <= waiting.handled && keys.isHandled(shard(states.get(BEHIND)), input, time)) {
      return false;
    }
    out.clear();
    keys.write(input, time, out);
    boolean changed = append(states, waiting, time);
    if (time < waiting.timer) {
      waiting.timer = time;
      timer.accept(time);
      changed = true;
    }
    if (changed) {
      states.put(FRONT, new StoredState(waiting.write()));
    }
    return true;
  }

  /**
   * Puts the row that was written into the last chunk, or a new one; whether that is to be told.
   */
  private boolean append(MapView<Object, StoredState> states, Waiting waiting, long time)
      throws Exception {
    if (waiting.size() > 0) {
      Object last = FIRST_CHUNK + waiting.last();
      byte[] chunk = states.get(last).getEncoded();
      if (chunk.length < FULL) {
        byte[] longer = new byte[chunk.length + out.length()];
        System.arraycopy(chunk, 0, longer, 0, chunk.length);
        System.arraycopy(out.getSharedBuffer(), 0, longer, chunk.length, out.length());
        states.put(last, new StoredState(longer));
        return waiting.lower(time);
      }
    }
    states.put(FIRST_CHUNK + waiting.add(time), new StoredState(out.getCopyOfBuffer()));
    return true;
  }

  /** Handles what is due up to the watermark, as {@link Keys#advance} does. */
  void advance(
      MapView<Object, StoredState> states,
      long watermark,
      Consumer<RowData> emit,
      LongConsumer timer)
      throws Exception {
    StoredState front = states.get(FRONT);
    Waiting waiting = waiting(front);
    if (waiting != null && waiting.timer > watermark) {
      return; // an earlier timer has done the work of this one
    }
    Shard shard = shard(waiting == null ? front : states.get(BEHIND));
    if (waiting == null && shard.timer > watermark) {
      return;
    }
    long next = KeyState.NEVER_DUE;
    if (waiting != null) {
      for (int i = waiting.size() - 1; i >= 0; i--) {
        if (waiting.earliest(i) <= watermark) {
          Object chunk = FIRST_CHUNK + waiting.number(i);
          keys.add(shard, states.get(chunk).getEncoded());
          states.remove(chunk);
          waiting.remove(i);
        } else {
          next = Math.min(next, waiting.earliest(i));
        }
      }
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
    if (waiting != null) {
      waiting.timer = next;
    }
    put(states, shard, waiting);
  }

  /** Null where the shard is in front itself. */
  @Nullable
  private Waiting waiting(@Nullable StoredState front) {
    if (front == null || !Waiting.isWritten(front.getEncoded())) {
      return null;
    }
    Waiting waiting = Waiting.read(front.getEncoded());
    keys.check(waiting);
    return waiting;
  }

  private Shard shard(@Nullable StoredState stored) {
    Shard shard = stored == null ? keys.newShard() : stored.shard();
    keys.check(shard);
    return shard;
  }

  private void put(MapView<Object, StoredState> states, Shard shard, @Nullable Waiting waiting)
      throws Exception {
    StoredState written = new StoredState(shard.write());
    int length = written.getEncoded().length;
    if (waiting == null && length < LARGE) {
      states.put(FRONT, written);
    } else if (waiting != null && waiting.size() == 0 && length < LARGE / 2) {
      states.remove(BEHIND);
      states.put(FRONT, written);
    } else {
      if (waiting == null) {
        waiting = keys.newWaiting();
        waiting.timer = shard.timer;
      }
      waiting.handled = Math.max(waiting.handled, shard.handled());
      states.put(BEHIND, written);
      states.put(FRONT, new StoredState(waiting.write()));
    }
  }
}
