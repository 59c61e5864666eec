package io.headwater.kernel.rolling;

import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.table.data.StringData;

/**
 * Writes {@link KeyState} as a version byte, then plain words.
 *
 * <p>The format knows nothing of the spec. A tile takes 8 bytes for its index and 8 for each word,
 * a buffered row 18 and 8 for each column; strings add 4 and their bytes. A later kernel writes a
 * higher version and keeps reading the lower ones.
 */
final class KeyStateCodec {

  private static final int VERSION = 1;

  private KeyStateCodec() {}

  static byte[] encode(KeyState state) {
    DataOutputSerializer out = new DataOutputSerializer(256);
    try {
      write(state, out);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return out.getCopyOfBuffer();
  }

  static KeyState decode(byte[] bytes) {
    try {
      return read(new DataInputDeserializer(bytes));
    } catch (IOException e) {
      throw new UncheckedIOException("rolling: cannot read state", e);
    }
  }

  private static void write(KeyState state, DataOutputView out) throws IOException {
    out.writeByte(VERSION);
    out.writeInt(state.fingerprint);
    out.writeLong(state.handled);
    out.writeLong(state.lastBuffered);
    out.writeInt(state.life.length);
    writeLongs(state.life, 0, state.life.length, out);
    out.writeInt(state.lifeStrings.length);
    writeStrings(state.lifeStrings, 0, state.lifeStrings.length, out);
    out.writeByte(state.tiles.length);
    writeLongs(state.lastTiles, 0, state.lastTiles.length, out);
    for (KeyState.Tiles tiles : state.tiles) {
      int size = tiles.end - tiles.first;
      out.writeInt(tiles.words);
      out.writeInt(tiles.strings);
      out.writeInt(size);
      writeLongs(tiles.index, tiles.first, size, out);
      writeLongs(tiles.w, tiles.first * tiles.words, size * tiles.words, out);
      writeStrings(tiles.s, tiles.first * tiles.strings, size * tiles.strings, out);
    }
    out.writeInt(state.endRow - state.firstRow);
    for (int i = state.firstRow; i < state.endRow; i++) {
      BufferedRow row = state.rows[i];
      out.writeLong(row.time);
      out.writeLong(row.nulls);
      out.writeByte(row.values.length);
      writeLongs(row.values, 0, row.values.length, out);
      out.writeBoolean(row.strings != null);
      if (row.strings != null) {
        writeStrings(row.strings, 0, row.strings.length, out);
      }
    }
  }

  private static KeyState read(DataInputView in) throws IOException {
    int version = in.readByte();
    if (version != VERSION) {
      throw new IOException(
          "rolling: state of version " + version + ", this kernel reads " + VERSION);
    }
    int fingerprint = in.readInt();
    long handled = in.readLong();
    long lastBuffered = in.readLong();
    long[] life = new long[in.readInt()];
    readLongs(life, life.length, in);
    StringData[] lifeStrings = new StringData[in.readInt()];
    readStrings(lifeStrings, lifeStrings.length, in);
    KeyState.Tiles[] lanes = new KeyState.Tiles[in.readUnsignedByte()];
    long[] lastTiles = new long[lanes.length];
    readLongs(lastTiles, lastTiles.length, in);
    for (int i = 0; i < lanes.length; i++) {
      int words = in.readInt();
      int strings = in.readInt();
      int size = in.readInt();
      KeyState.Tiles tiles = new KeyState.Tiles(words, strings, size + 1);
      readLongs(tiles.index, size, in);
      readLongs(tiles.w, size * words, in);
      readStrings(tiles.s, size * strings, in);
      tiles.end = size;
      lanes[i] = tiles;
    }
    KeyState state = new KeyState(fingerprint, lastTiles, life, lifeStrings, lanes);
    state.handled = handled;
    state.lastBuffered = lastBuffered;
    int rows = in.readInt();
    state.rows = new BufferedRow[rows];
    for (int i = 0; i < rows; i++) {
      state.append(readRow(in));
    }
    return state;
  }

  private static BufferedRow readRow(DataInputView in) throws IOException {
    long time = in.readLong();
    long nulls = in.readLong();
    long[] values = new long[in.readUnsignedByte()];
    readLongs(values, values.length, in);
    StringData[] strings = in.readBoolean() ? new StringData[values.length] : null;
    if (strings != null) {
      readStrings(strings, strings.length, in);
    }
    return new BufferedRow(time, nulls, values, strings);
  }

  private static void writeLongs(long[] from, int first, int count, DataOutputView out)
      throws IOException {
    for (int i = first; i < first + count; i++) {
      out.writeLong(from[i]);
    }
  }

  private static void readLongs(long[] to, int count, DataInputView in) throws IOException {
    for (int i = 0; i < count; i++) {
      to[i] = in.readLong();
    }
  }

  private static void writeStrings(StringData[] from, int first, int count, DataOutputView out)
      throws IOException {
    for (int i = first; i < first + count; i++) {
      byte[] bytes = from[i] == null ? null : from[i].toBytes();
      out.writeInt(bytes == null ? -1 : bytes.length);
      if (bytes != null) {
        out.write(bytes);
      }
    }
  }

  private static void readStrings(StringData[] to, int count, DataInputView in) throws IOException {
    for (int i = 0; i < count; i++) {
      int length = in.readInt();
      if (length >= 0) {
        byte[] bytes = new byte[length];
        in.readFully(bytes);
        to[i] = StringData.fromBytes(bytes);
      }
    }
  }
}
