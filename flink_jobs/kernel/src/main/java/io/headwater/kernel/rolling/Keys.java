package io.headwater.kernel.rolling;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.function.Consumer;
import java.util.function.LongConsumer;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.FlinkRuntimeException;

/** What {@link Rolling} does with the keys of a shard, without Flink's operator around it. */
final class Keys {

  private final int shards;
  private final int few;
  private final Engine engine;
  private final Key key;

  /** Where the key's columns stand in what is emitted. */
  private final int first;

  private final DataInputDeserializer in = new DataInputDeserializer();
  private final DataOutputSerializer out = new DataOutputSerializer(256);

  /**
   * @param shards over how many the keys are spread
   * @param few so many keys of a shard are kept as objects, however little they hold
   */
  Keys(Spec spec, int shards, int few) {
    this.shards = shards;
    this.few = few;
    engine = new Engine(spec);
    key = new Key(spec.keys);
    first = spec.width() - spec.keys.length;
  }

  Shard newShard() {
    return new Shard(shards);
  }

  /** Refuses a shard whose keys are those of another number of shards. */
  void check(Shard shard) {
    if (shard.of != shards) {
      throw new FlinkRuntimeException(
          "rolling: the state was written with keys in %s, and they are in %s now. Another state "
                  .formatted(Shards.told(shard.of), Shards.told(shards))
              + "backend is another state: go back to it, or replay.");
    }
  }

  /**
   * Keeps a row until the watermark has passed its time.
   *
   * @param timer takes the time at which {@link #advance} is to be called, if it is another one
   * @return whether it came in time; if not, it has no effect
   */
  boolean add(Shard shard, RowData input, long time, LongConsumer timer) {
    if (time <= shard.advanced) {
      return false;
    }
    key.write(input, out);
    int slot = shard.find(out.getSharedBuffer(), out.length());
    KeyState state;
    if (slot < 0) {
      state = engine.newState();
      slot = shard.add(out.getSharedBuffer(), out.length(), state);
    } else {
      state = shard.load(slot, in);
      engine.check(state);
      // After a restart the watermark begins anew, and what was handled stays handled.
      if (time <= state.handled) {
        return false;
      }
    }
    engine.buffer(state, input, time);
    state.timer = Math.min(state.timer, time);
    shard.keep(slot, state);
    if (time < shard.timer) {
      shard.timer = time;
      timer.accept(time);
    }
    return true;
  }

  /** Of the spec, by which {@link #check(int)} tells what another one wrote. */
  int fingerprint() {
    return engine.fingerprint();
  }

  /** Refuses rows that another spec left waiting. */
  void check(int fingerprint) {
    engine.check(fingerprint);
  }

  /** Whether {@link #add} would refuse a row. */
  boolean isHandled(Shard shard, RowData input, long time) {
    key.write(input, out);
    int slot = shard.find(out.getSharedBuffer(), out.length());
    return time <= shard.advanced || slot >= 0 && time <= shard.load(slot, in).handled;
  }

  /** Writes a row with its key, for {@link #add(Shard, byte[])}. */
  void write(RowData input, long time, DataOutputSerializer to) {
    key.write(input, out);
    try {
      to.writeInt(out.length());
      to.write(out.getSharedBuffer(), 0, out.length());
      KeyStateCodec.writeRow(engine.read(input, time), to);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Keeps rows that were written one after the other. */
  void add(Shard shard, byte[] written) {
    DataInputDeserializer rows = new DataInputDeserializer(written);
    try {
      while (rows.available() > 0) {
        byte[] key = new byte[rows.readInt()];
        rows.readFully(key);
        BufferedRow row = KeyStateCodec.readRow(rows);
        int slot = shard.find(key, key.length);
        KeyState state = slot < 0 ? engine.newState() : shard.load(slot, in);
        engine.check(state);
        state.append(row);
        state.timer = Math.min(state.timer, row.time);
        if (slot < 0) {
          shard.add(key, key.length, state);
        } else {
          shard.keep(slot, state);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException("rolling: cannot read rows that wait", e);
    }
  }

  /** Handles what is due up to the watermark; the shard may be empty afterwards. */
  void advance(Shard shard, long watermark, Consumer<RowData> emit, LongConsumer timer) {
    long next = KeyState.NEVER_DUE;
    boolean writes = shard.size() > few;
    shard.advanced = Math.max(shard.advanced, watermark);
    for (int slot = 0; slot < shard.size(); ) {
      if (shard.due(slot) <= watermark) {
        KeyState state = shard.load(slot, in);
        engine.check(state);
        if (state.key == null) {
          state.key = key.read(shard.key(slot, in));
        }
        key.say(state.key, engine.row(), first);
        state.timer = engine.advance(state, watermark, writes, emit);
        if (engine.isEmpty(state)) {
          shard.remove(slot);
          continue;
        }
        if (writes && Engine.isLittle(state)) {
          shard.write(slot, state, out);
        } else {
          shard.keep(slot, state);
        }
      }
      next = Math.min(next, shard.due(slot++));
    }
    shard.timer = next;
    if (next != KeyState.NEVER_DUE) {
      timer.accept(next);
    }
  }

  /** The row that says that {@code input} came too late to count. */
  RowData late(RowData input) {
    GenericRowData row = engine.late(input);
    key.write(input, out);
    in.setBuffer(out.getSharedBuffer(), 0, out.length());
    Object[] values = key.read(in);
    for (int i = 0; i < values.length; i++) {
      row.setField(first + i, values[i]);
    }
    return row;
  }
}
