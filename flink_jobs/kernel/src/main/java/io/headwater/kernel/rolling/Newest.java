package io.headwater.kernel.rolling;

import java.io.IOException;
import java.util.Arrays;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.ArrayNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.JsonNodeFactory;
import org.apache.flink.table.data.StringData;

/** The newest values, at most {@code most} of them, oldest first. */
final class Newest implements Sketch {

  static final byte TAG = 3;

  private final int most;
  private int size;
  private long[] words = new long[2];
  private StringData[] strings = new StringData[2];

  Newest(int most) {
    this.most = most;
  }

  @Override
  public void add(long word, StringData string) {
    if (size == most) {
      System.arraycopy(words, 1, words, 0, --size);
      System.arraycopy(strings, 1, strings, 0, size);
    } else if (size == words.length) {
      words = Arrays.copyOf(words, size * 2);
      strings = Arrays.copyOf(strings, size * 2);
    }
    words[size] = word;
    strings[size++] = string;
  }

  @Override
  public void merge(Sketch later) {
    Newest other = (Newest) later;
    int taken = Math.min(other.size, most);
    int left = Math.min(size, most - taken);
    int room = left + taken > words.length ? Math.min(most, 2 * (left + taken)) : words.length;
    long[] toWords = room > words.length ? new long[room] : words;
    StringData[] toStrings = room > words.length ? new StringData[room] : strings;
    System.arraycopy(words, size - left, toWords, 0, left);
    System.arraycopy(strings, size - left, toStrings, 0, left);
    System.arraycopy(other.words, other.size - taken, toWords, left, taken);
    System.arraycopy(other.strings, other.size - taken, toStrings, left, taken);
    words = toWords;
    strings = toStrings;
    size = left + taken;
  }

  /** A JSON array: SQL's arrays have no like in Feast's Redis format for every type. */
  StringData json(ColumnType type) {
    ArrayNode array = JsonNodeFactory.instance.arrayNode();
    for (int i = 0; i < size; i++) {
      switch (type) {
        case BIGINT -> array.add(words[i]);
        case DOUBLE -> array.add(Double.longBitsToDouble(words[i]));
        case BOOLEAN -> array.add(words[i] != 0);
        case STRING -> array.add(strings[i].toString());
      }
    }
    return StringData.fromString(array.toString());
  }

  @Override
  public Newest copy() {
    Newest copy = new Newest(most);
    copy.size = size;
    copy.words = words.clone();
    copy.strings = strings.clone();
    return copy;
  }

  @Override
  public byte tag() {
    return TAG;
  }

  @Override
  public void write(DataOutputView out) throws IOException {
    out.writeInt(most);
    out.writeInt(size);
    KeyStateCodec.writeLongs(words, 0, size, out);
    for (int i = 0; i < size; i++) {
      KeyStateCodec.writeString(strings[i], out);
    }
  }

  static Newest read(DataInputView in) throws IOException {
    Newest sketch = new Newest(in.readInt());
    sketch.size = in.readInt();
    sketch.words = new long[Math.max(2, sketch.size)];
    sketch.strings = new StringData[sketch.words.length];
    KeyStateCodec.readLongs(sketch.words, sketch.size, in);
    for (int i = 0; i < sketch.size; i++) {
      sketch.strings[i] = KeyStateCodec.readString(in);
    }
    return sketch;
  }
}
