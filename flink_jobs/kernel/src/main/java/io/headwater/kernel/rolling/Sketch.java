package io.headwater.kernel.rolling;

import java.io.IOException;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.table.data.StringData;

/**
 * An accumulator that does not fit in words. What it holds is a function of the values it saw (for
 * {@link Newest}, in their order), never of how they were spread over tiles or of chance: so a live
 * run and a replay give equal estimates, not only close ones.
 */
sealed interface Sketch permits Distinct, Quantiles, Newest {

  /** Adds a value: a word, or a string where the column is one. */
  void add(long word, StringData string);

  /** Takes in a later sketch of the same kind, which stays as it is. */
  void merge(Sketch later);

  Sketch copy();

  /** Says in a key's state which class reads the bytes; never used anew for another. */
  byte tag();

  void write(DataOutputView out) throws IOException;

  /** An empty sketch; {@code parameter} is the n of {@link Newest}. */
  static Sketch make(Layout.Slot slot) {
    return switch (slot.kind()) {
      case DISTINCT -> new Distinct(slot.type() == ColumnType.DOUBLE);
      case QUANTILES -> new Quantiles(slot.type() == ColumnType.DOUBLE);
      case NEWEST -> new Newest(slot.parameter());
      default -> throw new IllegalArgumentException(slot.kind() + " is no sketch");
    };
  }

  static Sketch read(byte tag, DataInputView in) throws IOException {
    return switch (tag) {
      case Distinct.TAG -> Distinct.read(in);
      case Quantiles.TAG -> Quantiles.read(in);
      case Newest.TAG -> Newest.read(in);
      default -> throw new IOException("rolling: unknown sketch " + tag);
    };
  }
}
