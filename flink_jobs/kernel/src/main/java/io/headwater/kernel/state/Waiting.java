package io.headwater.kernel.state;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.function.Consumer;
import javax.annotation.Nullable;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;

/**
 * Rows that wait apart from the rest of a key's state, in a backend that reads and writes an entry
 * whole at each access, as RocksDB does.
 *
 * <p>Once a state is large, the rows that come lie in chunks of their own: a row costs what it
 * takes itself, and not all that its key holds. When the first row of a chunk is due, the chunk's
 * rows go to the state. What a row has to know of the state meanwhile is here, and stands where the
 * state was before, which older kernels refuse by its version.
 *
 * <p>Written as a version byte, a fingerprint, the timer, what was handled, how many chunks there
 * are, and of each its number and the earliest time of its rows.
 */
public final class Waiting {

  /**
   * Bytes of a state from which on rows wait apart; below half of it they do no more. To read and
   * write so much costs about as much as the seven accesses that it takes a row to wait apart.
   */
  private static final int LARGE = 16 << 10;

  /** Bytes of a chunk: what is read and written for each row against how many chunks there are. */
  private static final int FULL = 4096;

  private static final int VERSION = 6;
  private static final int HEAD = 25;

  /** Where the state is, or what is here. */
  public static final int FRONT = 1;

  /** Where the state is then. */
  public static final int BEHIND = 0;

  private static final int FIRST_CHUNK = 2;

  /** After it the numbers begin anew: far more chunks than there ever are at once. */
  private static final int LAST = 1 << 30;

  /** Of what the rows were written with. */
  public final int fingerprint;

  /** The earliest timer that is set with Flink. */
  public long timer = Long.MAX_VALUE;

  /** The last instant that was handled. */
  public long handled = Long.MIN_VALUE;

  private int size;
  private int[] numbers = new int[2];
  private long[] earliest = new long[2];

  private Waiting(int fingerprint) {
    this.fingerprint = fingerprint;
  }

  /** What is written in front; null if that is the state itself, or nothing. */
  @Nullable
  public static Waiting of(@Nullable byte[] front) {
    return front == null || front[0] != VERSION ? null : read(front);
  }

  /** Whether no row waits. */
  public boolean isEmpty() {
    return size == 0;
  }

  /** Keeps a row until {@link #take} has it; whether a timer is to be set at its time. */
  public boolean add(Entries<?> entries, DataOutputSerializer row, long time) throws Exception {
    boolean first = time < timer;
    timer = Math.min(timer, time);
    if (append(entries, row, time) || first) {
      entries.put(FRONT, write());
    }
    return first;
  }

  /** Puts a row into the last chunk, or a new one; whether that changes what is said here. */
  private boolean append(Entries<?> entries, DataOutputSerializer row, long time) throws Exception {
    if (size > 0) {
      int last = FIRST_CHUNK + numbers[size - 1];
      byte[] chunk = entries.get(last);
      if (chunk.length < FULL) {
        byte[] longer = Arrays.copyOf(chunk, chunk.length + row.length());
        System.arraycopy(row.getSharedBuffer(), 0, longer, chunk.length, row.length());
        entries.put(last, longer);
        if (earliest[size - 1] <= time) {
          return false;
        }
        earliest[size - 1] = time;
        return true;
      }
    }
    if (size == numbers.length) {
      numbers = Arrays.copyOf(numbers, size * 2);
      earliest = Arrays.copyOf(earliest, size * 2);
    }
    int number = size == 0 || numbers[size - 1] == LAST ? 0 : numbers[size - 1] + 1;
    numbers[size] = number;
    earliest[size++] = time;
    entries.put(FIRST_CHUNK + number, row.getCopyOfBuffer());
    return true;
  }

  /**
   * Takes out the chunks of which a row is due, as they came; others of their rows may be due
   * later.
   *
   * @return the earliest time of those that wait on; the end of time if there is none
   */
  public long take(Entries<?> entries, long watermark, Consumer<byte[]> rows) throws Exception {
    long next = Long.MAX_VALUE;
    int left = 0;
    for (int i = 0; i < size; i++) {
      if (earliest[i] <= watermark) {
        rows.accept(entries.get(FIRST_CHUNK + numbers[i]));
        entries.remove(FIRST_CHUNK + numbers[i]);
      } else {
        next = Math.min(next, earliest[i]);
        numbers[left] = numbers[i];
        earliest[left++] = earliest[i];
      }
    }
    size = left;
    return next;
  }

  /**
   * Keeps a state, and says whether its rows are to wait apart from now on.
   *
   * @param waiting what waits apart from it, if anything does
   * @param fingerprint of what rows are written with
   * @param timer the earliest one that is set with Flink
   * @param handled the last instant that was handled
   */
  public static void put(
      Entries<?> entries,
      byte[] state,
      @Nullable Waiting waiting,
      int fingerprint,
      long timer,
      long handled)
      throws Exception {
    boolean small = waiting == null ? state.length < LARGE : state.length < LARGE / 2;
    if (small && (waiting == null || waiting.isEmpty())) {
      if (waiting != null) {
        entries.remove(BEHIND);
      }
      entries.put(FRONT, state);
      return;
    }
    Waiting now = waiting == null ? new Waiting(fingerprint) : waiting;
    now.timer = timer;
    now.handled = Math.max(now.handled, handled);
    entries.put(BEHIND, state);
    entries.put(FRONT, now.write());
  }

  private byte[] write() {
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

  private static Waiting read(byte[] written) {
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
      throw new UncheckedIOException("cannot read state", e);
    }
  }
}
