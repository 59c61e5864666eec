package io.headwater.kernel.rolling;

import java.util.Arrays;
import org.apache.flink.table.data.BoxedWrapperRowData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinarySegmentUtils;
import org.apache.flink.table.data.binary.BinaryStringData;

/** A key's columns as bytes, which are equal where the columns are. */
final class Key {

  private final Spec.Column[] columns;
  private final int first;
  private byte[] bytes = new byte[64];
  private int length;

  /**
   * @param first where the columns stand in what is emitted
   */
  Key(Spec.Column[] columns, int first) {
    this.columns = columns;
    this.first = first;
  }

  /** Reads the key of an input row into {@link #bytes}; returns how many they are. */
  int read(RowData row) {
    length = 0;
    for (Spec.Column column : columns) {
      int at = column.position();
      if (row.isNullAt(at)) {
        put((byte) 0);
        continue;
      }
      put((byte) 1);
      switch (column.type()) {
        case BIGINT -> put(row.getLong(at));
        case DOUBLE -> put(Double.doubleToLongBits(row.getDouble(at)));
        case BOOLEAN -> put((byte) (row.getBoolean(at) ? 1 : 0));
        case STRING -> put((BinaryStringData) row.getString(at));
      }
    }
    return length;
  }

  byte[] bytes() {
    return bytes;
  }

  private void reserve(int more) {
    if (length + more > bytes.length) {
      bytes = Arrays.copyOf(bytes, 2 * (length + more));
    }
  }

  private void put(byte b) {
    reserve(1);
    bytes[length++] = b;
  }

  private void put(long word) {
    reserve(8);
    for (int i = 56; i >= 0; i -= 8) {
      bytes[length++] = (byte) (word >>> i);
    }
  }

  private void put(BinaryStringData text) {
    text.ensureMaterialized();
    int size = text.getSizeInBytes();
    reserve(4 + size);
    for (int i = 24; i >= 0; i -= 8) {
      bytes[length++] = (byte) (size >>> i);
    }
    BinarySegmentUtils.copyToBytes(text.getSegments(), text.getOffset(), bytes, length, size);
    length += size;
  }

  /** The columns of a key; a null among them where a column is. */
  Object[] columns(byte[] key) {
    Object[] values = new Object[columns.length];
    int from = 0;
    for (int i = 0; i < columns.length; i++) {
      if (key[from++] == 0) {
        continue;
      }
      switch (columns[i].type()) {
        case BIGINT -> values[i] = word(key, from, 8);
        case DOUBLE -> values[i] = Double.longBitsToDouble(word(key, from, 8));
        case BOOLEAN -> values[i] = key[from] != 0;
        case STRING -> {
          int size = (int) word(key, from, 4);
          values[i] = StringData.fromBytes(key, from + 4, size);
          from += size;
        }
      }
      from +=
          switch (columns[i].type()) {
            case BIGINT, DOUBLE -> 8;
            case BOOLEAN -> 1;
            case STRING -> 4;
          };
    }
    return values;
  }

  /** Has what is emitted say whose it is. */
  void say(Object[] values, BoxedWrapperRowData row) {
    for (int i = 0; i < columns.length; i++) {
      int to = first + i;
      if (values[i] == null) {
        row.setNullAt(to);
        continue;
      }
      switch (columns[i].type()) {
        case BIGINT -> row.setLong(to, (Long) values[i]);
        case DOUBLE -> row.setDouble(to, (Double) values[i]);
        case BOOLEAN -> row.setBoolean(to, (Boolean) values[i]);
        case STRING -> row.setNonPrimitiveValue(to, values[i]);
      }
    }
  }

  private static long word(byte[] key, int from, int bytes) {
    long word = 0;
    for (int i = from; i < from + bytes; i++) {
      word = word << 8 | key[i] & 0xff;
    }
    return word;
  }

  /** Has a late row say whose it is. */
  void copy(RowData input, GenericRowData row) {
    for (int i = 0; i < columns.length; i++) {
      int at = columns[i].position();
      if (!input.isNullAt(at)) {
        row.setField(
            first + i,
            switch (columns[i].type()) {
              case BIGINT -> (Object) input.getLong(at);
              case DOUBLE -> input.getDouble(at);
              case BOOLEAN -> input.getBoolean(at);
              case STRING -> ((BinaryStringData) input.getString(at)).copy();
            });
      }
    }
  }
}
