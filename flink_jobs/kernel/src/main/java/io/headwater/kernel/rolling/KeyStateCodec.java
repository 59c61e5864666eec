package io.headwater.kernel.rolling;

import io.headwater.kernel.traces.RowTrace;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.table.data.StringData;

/**
 * Writes {@link KeyState} as a version byte, then plain words.
 *
 * <p>The format knows nothing of the spec. A tile takes 8 bytes for its index and 8 for each word,
 * a buffered row 18 and 8 for each column; strings add 4 and their bytes. An object is a tag and
 * what it tags: nothing, a string or a sketch. A later kernel writes a higher version and keeps
 * reading the lower ones; version 1 had strings for objects, without tags, and until version 2 each
 * instant had a timer of its own, of which the state kept the newest row's. Version 4 is written
 * only while a sampled row waits: what was its rows' boolean of strings has a second bit, for a
 * trace. Version 5 is a {@link Shard}, which has states of these in it.
 */
final class KeyStateCodec {

  private static final int VERSION = 3;
  private static final int VERSION_WITH_TRACES = 4;
  private static final int HAS_STRINGS = 1;
  private static final int HAS_TRACE = 2;
  private static final byte STRING = 0;

  /** Where what was handled stands: after the version and the fingerprint. */
  private static final int HANDLED = 5;

  private static final int TIMER = 13;

  private static final VarHandle LONG =
      MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

  private KeyStateCodec() {}

  static byte[] encode(KeyState state) {
    DataOutputSerializer out = new DataOutputSerializer(256);
    write(state, out);
    return out.getCopyOfBuffer();
  }

  static void write(KeyState state, DataOutputSerializer out) {
    try {
      write(state, (DataOutputView) out);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static KeyState decode(byte[] bytes) {
    return read(new DataInputDeserializer(bytes));
  }

  /** The timer of a written state, of version 3 or later. */
  static long timer(byte[] bytes, int from) {
    return (long) LONG.get(bytes, from + TIMER);
  }

  /** What was handled of a written state. */
  static long handled(byte[] bytes, int from) {
    return (long) LONG.get(bytes, from + HANDLED);
  }

  static KeyState read(DataInputDeserializer in) {
    try {
      return read((DataInputView) in);
    } catch (IOException e) {
      throw new UncheckedIOException("rolling: cannot read state", e);
    }
  }

  private static void write(KeyState state, DataOutputView out) throws IOException {
    out.writeByte(hasTraces(state) ? VERSION_WITH_TRACES : VERSION);
    out.writeInt(state.fingerprint);
    out.writeLong(state.handled);
    out.writeLong(state.timer);
    out.writeInt(state.life.length);
    writeLongs(state.life, 0, state.life.length, out);
    out.writeInt(state.lifeObjects.length);
    writeObjects(state.lifeObjects, 0, state.lifeObjects.length, out);
    out.writeByte(state.tiles.length);
    for (KeyState.Tiles tiles : state.tiles) {
      int size = tiles.end - tiles.first;
      out.writeInt(tiles.words);
      out.writeInt(tiles.objects);
      out.writeInt(size);
      writeLongs(tiles.index, tiles.first, size, out);
      writeLongs(tiles.w, tiles.first * tiles.words, size * tiles.words, out);
      writeObjects(tiles.s, tiles.first * tiles.objects, size * tiles.objects, out);
    }
    out.writeInt(state.endRow - state.firstRow);
    for (int i = state.firstRow; i < state.endRow; i++) {
      writeRow(state.rows[i], out);
    }
  }

  static void writeRow(BufferedRow row, DataOutputView out) throws IOException {
    out.writeLong(row.time);
    out.writeLong(row.nulls);
    out.writeByte(row.values.length);
    writeLongs(row.values, 0, row.values.length, out);
    out.writeByte((row.strings != null ? HAS_STRINGS : 0) | (row.trace != null ? HAS_TRACE : 0));
    if (row.strings != null) {
      for (StringData string : row.strings) {
        writeString(string, out);
      }
    }
    if (row.trace != null) {
      writeString(StringData.fromString(row.trace.parent()), out);
      out.writeLong(row.trace.readAt());
    }
  }

  private static boolean hasTraces(KeyState state) {
    for (int i = state.firstRow; i < state.endRow; i++) {
      if (state.rows[i].trace != null) {
        return true;
      }
    }
    return false;
  }

  private static KeyState read(DataInputView in) throws IOException {
    int version = in.readByte();
    if (version < 1 || version > VERSION_WITH_TRACES) {
      throw new IOException(
          "rolling: state of version "
              + version
              + ", this kernel reads 1 to "
              + VERSION_WITH_TRACES);
    }
    int fingerprint = in.readInt();
    long handled = in.readLong();
    long timer = in.readLong();
    long[] life = new long[in.readInt()];
    readLongs(life, life.length, in);
    Object[] lifeObjects = new Object[in.readInt()];
    readObjects(lifeObjects, lifeObjects.length, version, in);
    KeyState.Tiles[] lanes = new KeyState.Tiles[in.readUnsignedByte()];
    if (version < 3) {
      readLongs(new long[lanes.length], lanes.length, in);
      timer = KeyState.NEVER_DUE;
    }
    for (int i = 0; i < lanes.length; i++) {
      int words = in.readInt();
      int objects = in.readInt();
      int size = in.readInt();
      KeyState.Tiles tiles = new KeyState.Tiles(words, objects, size + 1);
      readLongs(tiles.index, size, in);
      readLongs(tiles.w, size * words, in);
      readObjects(tiles.s, size * objects, version, in);
      tiles.end = size;
      lanes[i] = tiles;
    }
    KeyState state = new KeyState(fingerprint, life, lifeObjects, lanes);
    state.handled = handled;
    state.timer = timer;
    int rows = in.readInt();
    state.rows = new BufferedRow[rows];
    for (int i = 0; i < rows; i++) {
      state.append(readRow(in));
    }
    return state;
  }

  static BufferedRow readRow(DataInputView in) throws IOException {
    long time = in.readLong();
    long nulls = in.readLong();
    long[] values = new long[in.readUnsignedByte()];
    readLongs(values, values.length, in);
    int has = in.readUnsignedByte();
    StringData[] strings = (has & HAS_STRINGS) != 0 ? new StringData[values.length] : null;
    for (int i = 0; strings != null && i < strings.length; i++) {
      strings[i] = readString(in);
    }
    RowTrace trace =
        (has & HAS_TRACE) != 0 ? new RowTrace(readString(in).toString(), in.readLong(), 0) : null;
    return new BufferedRow(time, nulls, values, strings, trace);
  }

  static void writeLongs(long[] from, int first, int count, DataOutputView out) throws IOException {
    for (int i = first; i < first + count; i++) {
      out.writeLong(from[i]);
    }
  }

  static void readLongs(long[] to, int count, DataInputView in) throws IOException {
    for (int i = 0; i < count; i++) {
      to[i] = in.readLong();
    }
  }

  private static void writeObjects(Object[] from, int first, int count, DataOutputView out)
      throws IOException {
    for (int i = first; i < first + count; i++) {
      if (from[i] instanceof Sketch sketch) {
        out.writeByte(sketch.tag());
        sketch.write(out);
      } else {
        out.writeByte(STRING);
        writeString((StringData) from[i], out);
      }
    }
  }

  private static void readObjects(Object[] to, int count, int version, DataInputView in)
      throws IOException {
    for (int i = 0; i < count; i++) {
      byte tag = version == 1 ? STRING : in.readByte();
      to[i] = tag == STRING ? readString(in) : Sketch.read(tag, in);
    }
  }

  /** Writes the length, or -1 for null, then the bytes. */
  static void writeString(StringData string, DataOutputView out) throws IOException {
    byte[] bytes = string == null ? null : string.toBytes();
    out.writeInt(bytes == null ? -1 : bytes.length);
    if (bytes != null) {
      out.write(bytes);
    }
  }

  static StringData readString(DataInputView in) throws IOException {
    int length = in.readInt();
    if (length < 0) {
      return null;
    }
    byte[] bytes = new byte[length];
    in.readFully(bytes);
    return StringData.fromBytes(bytes);
  }
}
