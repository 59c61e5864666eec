package io.headwater.kernel.joins;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.BiConsumer;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.core.memory.MemorySegmentFactory;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.data.binary.BinarySegmentUtils;
import org.apache.flink.util.FlinkRuntimeException;

/**
 * What is known of one key: the events that wait for the watermark, and the versions that they or
 * later ones may still need. Both in order of time, both rows in Flink's binary format.
 *
 * <p>The version in force at {@code t} is the newest of those true since {@code t} or before. Of
 * two versions since the same instant the later one in the log replaces the other, or, where there
 * are ties, the greater one stays, whichever comes first. A deletion is a version without a row.
 *
 * <p>Encoded: a version byte and a fingerprint of the columns, then for both lists the number of
 * columns, the length, and for each row its time or times, the length of its bytes and these. A
 * later kernel writes a higher version and reads the lower ones: version 1 had a fingerprint of the
 * columns' types alone.
 */
final class Timeline {

  static final long FOR_EVER = Long.MAX_VALUE;

  private static final byte VERSION_OF_TYPES = 1;
  private static final byte VERSION = 2;

  /** A version with the last instant at which it counts, or an event. */
  private record Timed(long time, long until, BinaryRowData row) {}

  private byte version;
  private int fingerprint;
  private final List<Timed> versions;
  private final List<Timed> events;

  /** Events before this position were handed out. */
  private int firstEvent;

  /** The instant of the timer that is set; not stored, for a second one does no harm. */
  long timer = FOR_EVER;

  Timeline(int fingerprint) {
    this(VERSION, fingerprint, new ArrayList<>(1), new ArrayList<>(2));
  }

  private Timeline(byte version, int fingerprint, List<Timed> versions, List<Timed> events) {
    this.version = version;
    this.fingerprint = fingerprint;
    this.versions = versions;
    this.events = events;
  }

  /**
   * Refuses the state of other columns, whose bytes would mean something else; of state of version
   * 1, that of columns of other types.
   */
  void check(int columns, int types) {
    if (version == VERSION_OF_TYPES && fingerprint == types) {
      version = VERSION;
      fingerprint = columns;
    }
    if (version == VERSION_OF_TYPES || fingerprint != columns) {
      throw ofOtherColumns();
    }
  }

  static FlinkRuntimeException ofOtherColumns() {
    return new FlinkRuntimeException(
        "temporal_join: the state was written by a call with other columns. "
            + "Changed columns are a changed state: give the call a new uid and replay.");
  }

  /** Keeps an event until its time is due. Events come nearly in order. */
  void addEvent(long time, BinaryRowData row) {
    events.add(positionAfter(events, firstEvent, time), new Timed(time, time, row));
  }

  /**
   * Takes in a version.
   *
   * @param until the last instant at which it counts, or {@link #FOR_EVER}; one before {@code
   *     since} is one that ran over the end of time
   * @param row null for a deletion
   * @param ties decides between versions since one instant; null if the later call does
   * @param watermark events up to then were handed out
   * @return whether the version is late: events that were handed out may have missed it
   */
  boolean addVersion(
      long since, long until, BinaryRowData row, Comparator<BinaryRowData> ties, long watermark) {
    boolean changed = insert(new Timed(since, until < since ? FOR_EVER : until, row), ties);
    prune(watermark);
    return changed && since <= watermark;
  }

  private boolean insert(Timed version, Comparator<BinaryRowData> ties) {
    int position = positionAfter(versions, 0, version.time);
    if (position == 0 || versions.get(position - 1).time < version.time) {
      versions.add(position, version);
      return true;
    }
    Timed known = versions.get(position - 1);
    if (known.equals(version) || ties != null && ties.compare(version.row, known.row) < 0) {
      return false;
    }
    versions.set(position - 1, version);
    return true;
  }

  /** The row in force at an instant, or null. */
  BinaryRowData at(long time) {
    int position = positionAfter(versions, 0, time) - 1;
    return position >= 0 && time <= versions.get(position).until
        ? versions.get(position).row
        : null;
  }

  /** Hands out the events that are due, each with the row in force at its time, or null. */
  void advance(long watermark, BiConsumer<BinaryRowData, BinaryRowData> out) {
    while (firstEvent < events.size() && events.get(firstEvent).time <= watermark) {
      Timed event = events.set(firstEvent++, null);
      out.accept(event.row, at(event.time));
    }
    if (firstEvent > 16 && firstEvent > events.size() / 2 || firstEvent == events.size()) {
      events.subList(0, firstEvent).clear();
      firstEvent = 0;
    }
    prune(watermark);
  }

  /** When there is something to hand out or to forget; {@link #FOR_EVER} if never. */
  long due() {
    long due = FOR_EVER;
    if (firstEvent < events.size()) {
      due = events.get(firstEvent).time;
    }
    if (versions.size() > 1) {
      due = Math.min(due, versions.get(1).time);
    }
    return versions.isEmpty() ? due : Math.min(due, versions.get(0).until);
  }

  /**
   * Forgets the versions that no event after {@code time} can need: all but the newest of those
   * since then or before, and that one too once it is too old. A deletion stays, so that an older
   * version that comes late does not come back to life.
   */
  private void prune(long time) {
    int newest = positionAfter(versions, 0, time) - 1;
    if (newest >= 0 && time >= versions.get(newest).until) {
      newest++;
    }
    if (newest > 0) {
      versions.subList(0, newest).clear();
    }
  }

  boolean isEmpty() {
    return versions.isEmpty() && events.isEmpty();
  }

  /** The first position, from {@code first} on, whose time is after {@code time}. */
  private static int positionAfter(List<Timed> rows, int first, long time) {
    int low = first;
    int high = rows.size();
    if (low < high && rows.get(high - 1).time <= time) {
      return high; // most come in order
    }
    while (low < high) {
      int middle = (low + high) >>> 1;
      if (rows.get(middle).time > time) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  byte[] encode() {
    DataOutputSerializer out = new DataOutputSerializer(128);
    try {
      out.writeByte(version);
      out.writeInt(fingerprint);
      write(versions, 0, true, out);
      write(events, firstEvent, false, out);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return out.getCopyOfBuffer();
  }

  static Timeline decode(byte[] bytes) {
    DataInputDeserializer in = new DataInputDeserializer(bytes);
    try {
      byte version = in.readByte();
      if (version < VERSION_OF_TYPES || version > VERSION) {
        throw new IOException(
            "state of version " + version + ", this kernel reads " + VERSION + " and lower");
      }
      return new Timeline(version, in.readInt(), read(true, in), read(false, in));
    } catch (IOException e) {
      throw new UncheckedIOException("temporal_join: cannot read state", e);
    }
  }

  private static void write(List<Timed> rows, int first, boolean until, DataOutputSerializer out)
      throws IOException {
    out.writeInt(rows.size() - first);
    for (Timed timed : rows.subList(first, rows.size())) {
      out.writeLong(timed.time);
      if (until) {
        out.writeLong(timed.until);
      }
      write(timed.row, out);
    }
  }

  private static void write(BinaryRowData row, DataOutputSerializer out) throws IOException {
    out.writeShort(row == null ? -1 : row.getArity());
    if (row != null) {
      out.writeInt(row.getSizeInBytes());
      out.write(
          BinarySegmentUtils.getBytes(row.getSegments(), row.getOffset(), row.getSizeInBytes()));
    }
  }

  private static List<Timed> read(boolean until, DataInputDeserializer in) throws IOException {
    int size = in.readInt();
    List<Timed> rows = new ArrayList<>(size);
    for (int i = 0; i < size; i++) {
      long time = in.readLong();
      long last = until ? in.readLong() : time;
      rows.add(new Timed(time, last, read(in)));
    }
    return rows;
  }

  private static BinaryRowData read(DataInputDeserializer in) throws IOException {
    int arity = in.readShort();
    if (arity < 0) {
      return null;
    }
    BinaryRowData row = new BinaryRowData(arity);
    byte[] bytes = new byte[in.readInt()];
    in.readFully(bytes);
    row.pointTo(MemorySegmentFactory.wrap(bytes), 0, bytes.length);
    return row;
  }

  /** Writes an event for {@link #addEvents}. */
  static void writeEvent(long time, BinaryRowData row, DataOutputSerializer out) {
    try {
      out.writeLong(time);
      write(row, out);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Keeps events that were written one after the other. */
  void addEvents(byte[] written) {
    DataInputDeserializer in = new DataInputDeserializer(written);
    try {
      while (in.available() > 0) {
        addEvent(in.readLong(), read(in));
      }
    } catch (IOException e) {
      throw new UncheckedIOException("temporal_join: cannot read events that wait", e);
    }
  }
}
