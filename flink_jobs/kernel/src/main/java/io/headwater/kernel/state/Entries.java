package io.headwater.kernel.state;

import java.util.function.Function;
import javax.annotation.Nullable;
import org.apache.flink.table.api.dataview.MapView;

/**
 * The entries of a key's state, as bytes.
 *
 * @param encoded the bytes of what Flink stores, and {@code stored} what it stores of them
 */
public record Entries<S>(
    MapView<? super Integer, S> states, Function<S, byte[]> encoded, Function<byte[], S> stored) {

  /** Null if there is none. */
  @Nullable
  public byte[] get(int entry) throws Exception {
    S found = states.get(entry);
    return found == null ? null : encoded.apply(found);
  }

  void put(int entry, byte[] bytes) throws Exception {
    states.put(entry, stored.apply(bytes));
  }

  void remove(int entry) throws Exception {
    states.remove(entry);
  }
}
