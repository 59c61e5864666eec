package io.headwater.kernel.redis;

import io.headwater.kernel.traces.RowSpans;
import javax.annotation.Nullable;
import org.apache.flink.table.data.BoxedWrapperRowData;

/**
 * The newest row of an entity in a batch. Its values are kept as they came: most rows of a busy
 * entity are replaced before they are written, and those need not be encoded.
 */
final class Pending {

  final byte[] key;

  /** The features, at the places that they have in the sink's rows. */
  final BoxedWrapperRowData values;

  long eventTime;
  boolean delete;
  @Nullable RowSpans.Write trace;

  Pending(byte[] key, int width) {
    this.key = key;
    this.values = new BoxedWrapperRowData(width);
  }
}
