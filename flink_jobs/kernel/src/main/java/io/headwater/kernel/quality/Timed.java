package io.headwater.kernel.quality;

import io.headwater.kernel.planner.InternalRows;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.functions.ProcessTableFunction;
import org.apache.flink.table.functions.SpecializedFunction;
import org.apache.flink.table.functions.UserDefinedFunction;
import org.apache.flink.table.types.AtomicDataType;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.CallContext;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.StaticArgument;
import org.apache.flink.table.types.inference.StaticArgumentTrait;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.TimestampKind;

/**
 * {@code timed}: the same rows, whose {@code event_time} is the time attribute.
 *
 * <pre>{@code SELECT * FROM timed(input => TABLE rolled_rows)}</pre>
 *
 * <p>A row of {@code rolling} comes out at the watermark that passes its event time and before that
 * watermark goes on, so none is late for what follows. Flink cannot know that, and takes the time
 * attribute away from what a process table function lets out.
 */
public final class Timed extends ProcessTableFunction<RowData> implements SpecializedFunction {

  private static final long serialVersionUID = 1L;
  private static final int INPUT = 0;
  private static final String TIME = "event_time";
  private static final DataType ATTRIBUTE =
      new AtomicDataType(new LocalZonedTimestampType(true, TimestampKind.ROWTIME, 3));

  private final boolean specialized;

  /** Used by {@code CREATE FUNCTION}; the planner specializes it for each call. */
  public Timed() {
    this(false);
  }

  private Timed(boolean specialized) {
    this.specialized = specialized;
  }

  @Override
  public UserDefinedFunction specialize(SpecializedContext context) {
    return new Timed(true);
  }

  @Override
  public TypeInference getTypeInference(DataTypeFactory typeFactory) {
    return TypeInference.newBuilder()
        .staticArguments(
            StaticArgument.table(
                "input",
                RowData.class,
                false,
                EnumSet.of(StaticArgumentTrait.TABLE, StaticArgumentTrait.ROW_SEMANTIC_TABLE)))
        .inputTypeStrategy(specialized ? new InternalRows(INPUT) : InputTypeStrategies.WILDCARD)
        .outputTypeStrategy(call -> Optional.of(outputType(call)))
        .build();
  }

  private static DataType outputType(CallContext call) {
    List<DataTypes.Field> fields = new ArrayList<>();
    boolean found = false;
    for (DataTypes.Field field : input(call)) {
      boolean time = field.getName().equals(TIME);
      found |= time;
      fields.add(time ? DataTypes.FIELD(TIME, ATTRIBUTE) : field);
    }
    if (!found) {
      throw new ValidationException("timed: input must have a column " + TIME);
    }
    return DataTypes.ROW(fields).bridgedTo(RowData.class);
  }

  private static List<DataTypes.Field> input(CallContext call) {
    return DataType.getFields(
        call.getTableSemantics(INPUT)
            .orElseThrow(() -> new ValidationException("timed: input must be a table"))
            .dataType());
  }

  /** Lets a row through; called by Flink for each. */
  public void eval(RowData input) {
    collect(input);
  }
}
