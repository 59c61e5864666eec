package io.headwater.kernel.state;

import java.time.Duration;
import java.util.LinkedHashMap;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.StateTypeStrategy;
import org.apache.flink.table.types.inference.TypeStrategies;

/** What a function keeps of each partition: one object that encodes itself, under one number. */
public final class StateOfKey {

  private StateOfKey() {}

  /**
   * As a function declares it, under an INT.
   *
   * @param stored has one field, {@code encoded}, which is bytes; a map gives objects of it without
   *     a conversion at each call
   */
  public static LinkedHashMap<String, StateTypeStrategy> of(Class<?> stored) {
    return of(stored, DataTypes.INT());
  }

  /**
   * The same, under a number of a type.
   *
   * @param number state of another one is refused by Flink, before the first row is read
   */
  public static LinkedHashMap<String, StateTypeStrategy> of(Class<?> stored, DataType number) {
    DataType type = DataTypes.STRUCTURED(stored, DataTypes.FIELD("encoded", DataTypes.BYTES()));
    DataType map = MapView.newMapViewDataType(number.notNull(), type.notNull());
    LinkedHashMap<String, StateTypeStrategy> state = new LinkedHashMap<>();
    state.put("state", StateTypeStrategy.of(TypeStrategies.explicit(map), Duration.ZERO));
    return state;
  }
}
