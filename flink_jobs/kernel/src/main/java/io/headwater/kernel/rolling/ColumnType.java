package io.headwater.kernel.rolling;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;

/** The column types a feature can read. Others are cast in SQL, where the cast is seen. */
enum ColumnType {
  BIGINT(DataTypes.BIGINT()),
  DOUBLE(DataTypes.DOUBLE()),
  STRING(DataTypes.STRING()),
  BOOLEAN(DataTypes.BOOLEAN());

  private final transient DataType dataType;

  ColumnType(DataType dataType) {
    this.dataType = dataType;
  }

  DataType dataType() {
    return dataType;
  }

  boolean isNumber() {
    return this == BIGINT || this == DOUBLE;
  }

  /** The column type of a SQL type, or null when no feature can read it. */
  static ColumnType of(LogicalType type) {
    return switch (type.getTypeRoot()) {
      case BIGINT -> BIGINT;
      case DOUBLE -> DOUBLE;
      case VARCHAR, CHAR -> STRING;
      case BOOLEAN -> BOOLEAN;
      default -> null;
    };
  }
}
