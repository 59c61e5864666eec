package io.headwater.kernel.rolling;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.util.FlinkRuntimeException;
import org.apache.flink.util.MathUtils;

/**
 * The keys of one partition, each with its state and when it is due.
 *
 * <p>For a key of its own, with a timer, Flink keeps a dozen objects, and a key's state is as many:
 * with a million keys most of the processor's time goes into collecting garbage and into
 * checkpoints, which copy each of them. Here all keys lie in one array of bytes, as records that
 * are written over where they fit and moved to the end where they do not. A key's state is an
 * object only where it is worth that: it holds much, rows of it wait, or there are few keys.
 *
 * <p>A key has a slot, its place in the other arrays. Slots are found by a hash table with open
 * addressing, and looked through in their order for what is due: the records of neighbours lie side
 * by side.
 *
 * <p>A record is four words of four bytes, its capacity, its slot, the length of the key and the
 * length of the state; then the key; then the state, as {@link KeyStateCodec} writes it.
 */
final class Shard {

  private static final int NONE = -1;

  /** 6 is what {@link io.headwater.kernel.state.Waiting} puts in a shard's place. */
  private static final int VERSION = 7;

  private static final int HEAD = 25;

  /** The first version of a shard, which did not say how far it was. */
  private static final int FIRST = 5;

  private static final int FIRST_HEAD = 17;
  private static final int LINKED = 8;

  private static final int SLOT = 4;
  private static final int KEY_LENGTH = 8;
  private static final int STATE_LENGTH = 12;
  private static final int KEY = 16;

  private static final VarHandle WORD =
      MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.BIG_ENDIAN);

  /** Over how many shards the keys are spread; see {@link Shards}. */
  final int of;

  /** The earliest timer that is set with Flink. */
  long timer = KeyState.NEVER_DUE;

  /**
   * The watermark that the keys were last advanced to. Rows at or before it are late also after a
   * restart, where the watermark begins anew, and also of a key that has been forgotten.
   */
  long advanced = KeyState.NEVER;

  private int size;

  private byte[] records;

  /** Where the first record begins, and the last one ends. */
  private int begin;

  private int end;

  /** How much between them no slot has any more. */
  private int garbage;

  /** Of each slot, where its record begins. */
  private int[] at = new int[2];

  private long[] due = new long[2];

  /** Of each slot, the state as an object, if it is one now; of the record the key alone counts. */
  private KeyState[] objects = new KeyState[2];

  /** By hash, the hash and below it a slot and one more; none while there are few keys. */
  private long[] table;

  Shard(int of) {
    this(of, new byte[64], 0, 0);
  }

  private Shard(int of, byte[] records, int begin, int end) {
    this.of = of;
    this.records = records;
    this.begin = begin;
    this.end = end;
  }

  int size() {
    return size;
  }

  /** The last instant that was handled, for any key. */
  long handled() {
    long handled = advanced;
    for (int slot = 0; slot < size; slot++) {
      int state = at[slot] + KEY + word(at[slot] + KEY_LENGTH);
      handled =
          Math.max(
              handled,
              objects[slot] != null
                  ? objects[slot].handled
                  : KeyStateCodec.handled(records, state));
    }
    return handled;
  }

  /** When a key is due. */
  long due(int slot) {
    return due[slot];
  }

  private static int hash(byte[] bytes, int from, int length) {
    int hash = 0;
    for (int i = from; i < from + length; i++) {
      hash = 31 * hash + bytes[i];
    }
    return MathUtils.bitMix(hash);
  }

  private int hash(int slot) {
    return hash(records, at[slot] + KEY, word(at[slot] + KEY_LENGTH));
  }

  /** The slot of the key that the first bytes of {@code key} are; -1 if there is none. */
  int find(byte[] key, int length) {
    if (table == null) {
      for (int slot = 0; slot < size; slot++) {
        if (isKey(slot, key, length)) {
          return slot;
        }
      }
      return NONE;
    }
    int hash = hash(key, 0, length);
    int mask = table.length - 1;
    for (int i = hash & mask; table[i] != 0; i = i + 1 & mask) {
      int slot = (int) table[i] - 1;
      if ((int) (table[i] >>> 32) == hash && isKey(slot, key, length)) {
        return slot;
      }
    }
    return NONE;
  }

  private boolean isKey(int slot, byte[] key, int length) {
    int from = at[slot] + KEY;
    return word(at[slot] + KEY_LENGTH) == length
        && Arrays.equals(records, from, from + length, key, 0, length);
  }

  /** Adds a key, which must not be there, with its state; returns its slot. */
  int add(byte[] key, int length, KeyState state) {
    int to = reserve(length);
    int slot = newSlot();
    place(slot, to);
    objects[slot] = state;
    due[slot] = state.timer;
    System.arraycopy(key, 0, records, at[slot] + KEY, length);
    word(at[slot] + KEY_LENGTH, length);
    word(at[slot] + STATE_LENGTH, 0);
    link(slot);
    return slot;
  }

  private void place(int slot, int position) {
    at[slot] = position;
    word(position + SLOT, slot);
  }

  private int newSlot() {
    if (size == at.length) {
      int capacity = size + (size >> 1) + 1;
      at = Arrays.copyOf(at, capacity);
      due = Arrays.copyOf(due, capacity);
      objects = Arrays.copyOf(objects, capacity);
    }
    return size++;
  }

  private void link(int slot) {
    if (table != null && size * 2 <= table.length) {
      enter(slot, hash(slot));
    } else if (size > LINKED) {
      table = new long[Integer.highestOneBit(size) << 2];
      for (int i = 0; i < size; i++) {
        enter(i, hash(i));
      }
    }
  }

  private void enter(int slot, int hash) {
    int mask = table.length - 1;
    int i = hash & mask;
    while (table[i] != 0) {
      i = i + 1 & mask;
    }
    table[i] = (long) hash << 32 | slot + 1;
  }

  /** Forgets a key; the last one takes its slot. */
  void remove(int slot) {
    int last = size - 1;
    if (table != null) {
      unlink(slot);
      if (slot != last) {
        table[entry(last)] += slot - last;
      }
    }
    garbage += KEY + word(at[slot]);
    place(slot, at[last]);
    due[slot] = due[last];
    objects[slot] = objects[last];
    objects[last] = null;
    size = last;
  }

  private int entry(int slot) {
    int mask = table.length - 1;
    int i = hash(slot) & mask;
    while ((int) table[i] != slot + 1) {
      i = i + 1 & mask;
    }
    return i;
  }

  /** Takes a slot out of the table, and moves up those behind it that could stand there. */
  private void unlink(int slot) {
    int mask = table.length - 1;
    int free = entry(slot);
    for (int i = free + 1 & mask; table[i] != 0; i = i + 1 & mask) {
      int home = (int) (table[i] >>> 32) & mask;
      if ((i - home & mask) >= (i - free & mask)) {
        table[free] = table[i];
        free = i;
      }
    }
    table[free] = 0;
  }

  /** A key, as it was added; returns what it is read from. */
  DataInputDeserializer key(int slot, DataInputDeserializer in) {
    in.setBuffer(records, at[slot] + KEY, word(at[slot] + KEY_LENGTH));
    return in;
  }

  /** A key's state, to be given back by {@link #keep} or {@link #write}. */
  KeyState load(int slot, DataInputDeserializer in) {
    if (objects[slot] != null) {
      return objects[slot];
    }
    int key = word(at[slot] + KEY_LENGTH);
    in.setBuffer(records, at[slot] + KEY + key, word(at[slot] + STATE_LENGTH));
    return KeyStateCodec.read(in);
  }

  /** Keeps a key's state as the object that it is. */
  void keep(int slot, KeyState state) {
    due[slot] = state.timer;
    objects[slot] = state;
  }

  /** Keeps a key's state as the bytes that it is written as. */
  void write(int slot, KeyState state, DataOutputSerializer buffer) {
    due[slot] = state.timer;
    objects[slot] = null;
    buffer.clear();
    KeyStateCodec.write(state, buffer);
    int key = word(at[slot] + KEY_LENGTH);
    int length = buffer.length();
    if (key + length > word(at[slot])) {
      move(slot, key, key + length);
    }
    word(at[slot] + STATE_LENGTH, length);
    System.arraycopy(buffer.getSharedBuffer(), 0, records, at[slot] + KEY + key, length);
  }

  private void move(int slot, int key, int capacity) {
    int to = reserve(capacity);
    System.arraycopy(records, at[slot] + KEY_LENGTH, records, to + KEY_LENGTH, 8 + key);
    garbage += KEY + word(at[slot]);
    place(slot, to);
  }

  /** Makes room for a record; returns where it begins. The others may lie elsewhere then. */
  private int reserve(int least) {
    int capacity = least + 31 & ~31;
    int length = KEY + capacity;
    if (end + length > records.length) {
      int live = end - begin - garbage + length;
      compact(live > records.length / 4 * 3 ? new byte[Math.addExact(live, live >> 1)] : records);
    }
    int position = end;
    word(position, capacity);
    end += length;
    return position;
  }

  /** Moves the records together, in the order in which they lie, to the beginning of an array. */
  private void compact(byte[] target) {
    int to = 0;
    for (int from = begin; from < end; ) {
      int length = KEY + word(from);
      int slot = word(from + SLOT);
      if (slot < size && at[slot] == from) {
        System.arraycopy(records, from, target, to, length);
        at[slot] = to;
        to += length;
      }
      from += length;
    }
    records = target;
    begin = 0;
    end = to;
    garbage = 0;
  }

  private int word(int position) {
    return (int) WORD.get(records, position);
  }

  private void word(int position, int word) {
    WORD.set(records, position, word);
  }

  /**
   * Writes what {@link #read} reads: a version, over how many shards the keys are spread, the
   * timer, how far they are advanced, how many keys, and their records.
   */
  byte[] write() {
    DataOutputSerializer out = new DataOutputSerializer(HEAD + end - begin - garbage + 64);
    try {
      out.writeByte(VERSION);
      out.writeInt(of);
      out.writeLong(timer);
      out.writeLong(advanced);
      out.writeInt(size);
      for (int slot = 0; slot < size; slot++) {
        int key = word(at[slot] + KEY_LENGTH);
        byte[] state = objects[slot] == null ? null : KeyStateCodec.encode(objects[slot]);
        int length = state == null ? word(at[slot] + STATE_LENGTH) : state.length;
        out.writeInt(key + length);
        out.writeInt(slot);
        out.writeInt(key);
        out.writeInt(length);
        out.write(records, at[slot] + KEY, key);
        if (state == null) {
          out.write(records, at[slot] + KEY + key, length);
        } else {
          out.write(state);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return out.getCopyOfBuffer();
  }

  /**
   * Reads a shard, or the state of the only key of a partition, as it was written before there were
   * shards.
   */
  static Shard read(byte[] written) {
    if (written[0] < FIRST) {
      Shard shard = new Shard(Shards.OF_ONE_KEY);
      KeyState state = KeyStateCodec.decode(written);
      if (state.timer == KeyState.NEVER_DUE) {
        state.timer = KeyState.NEVER;
      }
      shard.add(new byte[0], 0, state);
      return shard;
    }
    if (written[0] != FIRST && written[0] != VERSION) {
      throw new FlinkRuntimeException(
          "rolling: state of version %d, this kernel reads 1 to %d and %d"
              .formatted(written[0], FIRST, VERSION));
    }
    try {
      int head = written[0] == FIRST ? FIRST_HEAD : HEAD;
      DataInputDeserializer in = new DataInputDeserializer(written, 1, head - 1);
      Shard shard = new Shard(in.readInt(), written, head, written.length);
      shard.timer = in.readLong();
      shard.advanced = written[0] == FIRST ? KeyState.NEVER : in.readLong();
      int position = head;
      for (int i = in.readInt(); i > 0; i--) {
        int slot = shard.newSlot();
        int state = position + KEY + shard.word(position + KEY_LENGTH);
        shard.at[slot] = position;
        shard.due[slot] = KeyStateCodec.timer(written, state);
        shard.link(slot);
        position += KEY + shard.word(position);
      }
      return shard;
    } catch (IOException e) {
      throw new UncheckedIOException("rolling: cannot read state", e);
    }
  }
}
