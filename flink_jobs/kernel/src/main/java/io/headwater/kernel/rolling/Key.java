package io.headwater.kernel.rolling;

import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.BoxedWrapperRowData;
import org.apache.flink.table.data.RowData;

/** A key's columns as bytes, which are equal where the columns are. */
final class Key {

  private final Spec.Column[] columns;

  Key(Spec.Column[] columns) {
    this.columns = columns;
  }

  /** Writes the key of an input row: of each column whether it is there, and what it is. */
  void write(RowData row, DataOutputSerializer out) {
    out.clear();
    try {
      for (Spec.Column column : columns) {
        int at = column.position();
        boolean isThere = !row.isNullAt(at);
        out.writeBoolean(isThere);
        if (!isThere) {
          continue;
        }
        switch (column.type()) {
          case BIGINT -> out.writeLong(row.getLong(at));
          case DOUBLE -> out.writeDouble(row.getDouble(at));
          case BOOLEAN -> out.writeBoolean(row.getBoolean(at));
          case STRING -> KeyStateCodec.writeString(row.getString(at), out);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Reads the columns of a key; null where one is. */
  Object[] read(DataInputDeserializer in) {
    Object[] values = new Object[columns.length];
    try {
      for (int i = 0; i < columns.length; i++) {
        if (in.readBoolean()) {
          values[i] =
              switch (columns[i].type()) {
                case BIGINT -> (Object) in.readLong();
                case DOUBLE -> in.readDouble();
                case BOOLEAN -> in.readBoolean();
                case STRING -> KeyStateCodec.readString(in);
              };
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException("rolling: cannot read a key", e);
    }
    return values;
  }

  /** Has what is emitted say whose it is, from its column {@code first} on. */
  void say(Object[] values, BoxedWrapperRowData row, int first) {
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
}
