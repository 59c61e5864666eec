package io.headwater.kernel.joins;

import java.util.Comparator;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.types.logical.LogicalType;

/** Orders rows column by column: null first, then by value, strings by their bytes. */
final class ByContent implements Comparator<BinaryRowData> {

  private final RowData.FieldGetter[] columns;

  ByContent(LogicalType[] types) {
    columns = new RowData.FieldGetter[types.length];
    for (int i = 0; i < types.length; i++) {
      columns[i] = RowData.createFieldGetter(types[i], i);
    }
  }

  @Override
  @SuppressWarnings("unchecked")
  public int compare(BinaryRowData left, BinaryRowData right) {
    for (RowData.FieldGetter column : columns) {
      Object a = column.getFieldOrNull(left);
      Object b = column.getFieldOrNull(right);
      int order =
          a == null || b == null
              ? Boolean.compare(a != null, b != null)
              : ((Comparable<Object>) a).compareTo(b);
      if (order != 0) {
        return order;
      }
    }
    return 0;
  }
}
