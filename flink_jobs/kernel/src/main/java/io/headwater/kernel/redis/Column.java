package io.headwater.kernel.redis;

import java.io.IOException;
import java.io.Serializable;
import java.util.Optional;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.BoxedWrapperRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.utils.LogicalTypeChecks;

/** A column of the sink's rows, with the name that Redis knows it by. */
record Column(String name, int index, Kind kind) implements Serializable {

  static final String TYPES =
      "STRING, BIGINT, INT, DOUBLE, BOOLEAN, TIMESTAMP(3) or TIMESTAMP_LTZ(3)";

  enum Kind {
    STRING,
    BIGINT,
    INT,
    DOUBLE,
    BOOLEAN,
    TIMESTAMP;

    /** Empty if the format has no place for the type. */
    static Optional<Kind> of(LogicalType type) {
      LogicalTypeRoot root = type.getTypeRoot();
      return switch (root) {
        case VARCHAR, CHAR -> Optional.of(STRING);
        case BIGINT -> Optional.of(BIGINT);
        case INTEGER -> Optional.of(INT);
        case DOUBLE -> Optional.of(DOUBLE);
        case BOOLEAN -> Optional.of(BOOLEAN);
        // A finer one would lose digits without a word.
        case TIMESTAMP_WITHOUT_TIME_ZONE, TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
            LogicalTypeChecks.getPrecision(type) <= 3 ? Optional.of(TIMESTAMP) : Optional.empty();
        default -> Optional.empty();
      };
    }
  }

  /** The value as the bytes of a Feast Value; a null is an empty one. */
  byte[] encode(RowData row) {
    if (row.isNullAt(index)) {
      return FeastCodec.NULL;
    }
    return switch (kind) {
      case STRING -> FeastCodec.string(row.getString(index).toBytes());
      case BIGINT -> FeastCodec.int64(row.getLong(index));
      case INT -> FeastCodec.int64(row.getInt(index));
      case DOUBLE -> FeastCodec.float64(row.getDouble(index));
      case BOOLEAN -> FeastCodec.bool(row.getBoolean(index));
      case TIMESTAMP -> FeastCodec.int64(milliseconds(row));
    };
  }

  /** Puts the value into the same place of another row, for good. */
  void copy(RowData row, BoxedWrapperRowData target) {
    if (row.isNullAt(index)) {
      target.setNullAt(index);
      return;
    }
    switch (kind) {
      case STRING ->
          target.setNonPrimitiveValue(index, ((BinaryStringData) row.getString(index)).copy());
      case BIGINT -> target.setLong(index, row.getLong(index));
      case INT -> target.setInt(index, row.getInt(index));
      case DOUBLE -> target.setDouble(index, row.getDouble(index));
      case BOOLEAN -> target.setBoolean(index, row.getBoolean(index));
      case TIMESTAMP -> target.setNonPrimitiveValue(index, row.getTimestamp(index, 3));
    }
  }

  /** Writes the value as a part of an entity key. */
  void writeKey(RowData row, DataOutputSerializer target) throws IOException {
    if (kind == Kind.STRING) {
      FeastCodec.writeStringKey(target, row.getString(index).toBytes());
    } else {
      FeastCodec.writeInt64Key(target, row.getLong(index));
    }
  }

  long milliseconds(RowData row) {
    return kind == Kind.BIGINT ? row.getLong(index) : row.getTimestamp(index, 3).getMillisecond();
  }
}
