package io.headwater.kernel.planner;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.functions.FunctionDefinition;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.ArgumentCount;
import org.apache.flink.table.types.inference.CallContext;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.InputTypeStrategy;
import org.apache.flink.table.types.inference.Signature;

/**
 * Asks for {@link RowData}. Flink 2.1 overlooks the class named for a table of any type and would
 * convert each row to a {@code Row}; it listens to the strategy of the specialized function.
 */
public final class InternalRows implements InputTypeStrategy {

  private final int[] tables;

  /** For the arguments at those positions. */
  public InternalRows(int... tables) {
    this.tables = tables;
  }

  @Override
  public ArgumentCount getArgumentCount() {
    return InputTypeStrategies.WILDCARD.getArgumentCount();
  }

  @Override
  public Optional<List<DataType>> inferInputTypes(CallContext call, boolean throwOnFailure) {
    List<DataType> types = new ArrayList<>(call.getArgumentDataTypes());
    for (int table : tables) {
      types.set(table, types.get(table).bridgedTo(RowData.class));
    }
    return Optional.of(types);
  }

  @Override
  public List<Signature> getExpectedSignatures(FunctionDefinition definition) {
    return InputTypeStrategies.WILDCARD.getExpectedSignatures(definition);
  }
}
