package io.headwater.kernel.rolling;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;

/**
 * What is to be known of a shard whose rows wait {@link Apart} from it: when anything is due, and
 * where the rows are.
 *
 * <p>It stands where a shard does, and older kernels refuse its version as that of one. Written as
 * a version byte, the fingerprint of the spec, the timer, what was handled, how many chunks there
 * are, and of each its number and the earliest time of its rows.
 */
final class Waiting {

  private static final int VERSION = 6;
  private static final int HEAD = 25;

  /** After it the numbers begin anew: far more chunks than there ever are at once. */
  private static final int LAST = 1 << 30;

  final int fingerprint;

  /** The earliest timer that is set with Flink. */
  long timer = KeyState.NEVER_DUE;

  /** The last instant that was handled for any key. */
  long handled = KeyState.NEVER;

  private int size;
  private int[] numbers = new int[2];
  private long[] earliest = new long[2];

  Waiting(int fingerprint) {
    this.fingerprint = fingerprint;
  }

  /** How many chunks there are. */
  int size() {
    return size;
  }

  int number(int chunk) {
    return numbers[chunk];
  }

  /** The number of the chunk that is written to. */
  int last() {
    return numbers[size - 1];
  }

  /** The earliest time of a chunk's rows. */
  long earliest(int chunk) {
    return earliest[chunk];
  }

  /** Adds a chunk whose first row is of {@code time}; its number. */
  int add(long time) {
    int number = size == 0 || last() == LAST ? 0 : last() + 1;
    if (size == numbers.length) {
      numbers = Arrays.copyOf(numbers, size * 2);
      earliest = Arrays.copyOf(earliest, size * 2);
    }
    numbers[size] = number;
    earliest[size++] = time;
    return number;
  }

  /** The last chunk has got a row of {@code time}; whether it is its earliest now. */
  boolean lower(long time) {
    if (earliest[size - 1] <= time) {
      return false;
    }
    earliest[size - 1] = time;
    return true;
  }

  /** Forgets a chunk. */
  void remove(int chunk) {
    size--;
    System.arraycopy(numbers, chunk + 1, numbers, chunk, size - chunk);
    System.arraycopy(earliest, chunk + 1, earliest, chunk, size - chunk);
  }

  byte[] write() {
    DataOutputSerializer out = new DataOutputSerializer(HEAD + 12 * size);
    try {
      out.writeByte(VERSION);
      out.writeInt(fingerprint);
      out.writeLong(timer);
      out.writeLong(handled);
      out.writeInt(size);
      for (int i = 0; i < size; i++) {
        out.writeInt(numbers[i]);
        out.writeLong(earliest[i]);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return out.getCopyOfBuffer();
  }

  /** Whether this was written, and no shard. */
  static boolean isWritten(byte[] written) {
    return written[0] == VERSION;
  }

  static Waiting read(byte[] written) {
    DataInputDeserializer in = new DataInputDeserializer(written, 1, written.length - 1);
    try {
      Waiting waiting = new Waiting(in.readInt());
      waiting.timer = in.readLong();
      waiting.handled = in.readLong();
      waiting.size = in.readInt();
      waiting.numbers = new int[Math.max(2, waiting.size)];
      waiting.earliest = new long[Math.max(2, waiting.size)];
      for (int i = 0; i < waiting.size; i++) {
        waiting.numbers[i] = in.readInt();
        waiting.earliest[i] = in.readLong();
      }
      return waiting;
    } catch (IOException e) {
      throw new UncheckedIOException("rolling: cannot read state", e);
    }
  }
}
