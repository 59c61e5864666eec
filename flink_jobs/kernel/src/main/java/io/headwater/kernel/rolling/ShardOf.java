package io.headwater.kernel.rolling;

import java.util.List;
import java.util.Optional;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.FunctionDefinition;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.table.functions.SpecializedFunction;
import org.apache.flink.table.functions.UserDefinedFunction;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.ArgumentCount;
import org.apache.flink.table.types.inference.CallContext;
import org.apache.flink.table.types.inference.ConstantArgumentCount;
import org.apache.flink.table.types.inference.InputTypeStrategy;
import org.apache.flink.table.types.inference.Signature;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.util.MathUtils;

/**
 * {@code shard(key, …)}: the shard that a key's state is in, an INT for {@code PARTITION BY}.
 *
 * <p>On the heap there are {@link Shards#ON_HEAP} of them, elsewhere each hash of a key is one.
 */
public final class ShardOf extends ScalarFunction implements SpecializedFunction {

  private static final long serialVersionUID = 1L;

  private final int shards;

  /** Used by {@code CREATE FUNCTION}; the planner specializes it for each call. */
  public ShardOf() {
    this(Shards.OF_EACH);
  }

  private ShardOf(int shards) {
    this.shards = shards;
  }

  @Override
  public UserDefinedFunction specialize(SpecializedContext context) {
    return new ShardOf(Shards.of(context.getConfiguration()));
  }

  @Override
  public TypeInference getTypeInference(DataTypeFactory typeFactory) {
    return TypeInference.newBuilder()
        .inputTypeStrategy(new Internal())
        .outputTypeStrategy(call -> Optional.of(DataTypes.INT().notNull()))
        .build();
  }

  /** Called by Flink for each row. */
  public int eval(Object... keys) {
    int hash = 0;
    for (Object key : keys) {
      // Mixed each time: small numbers beside each other would make few sums.
      hash = MathUtils.bitMix(31 * hash + (key == null ? 0 : key.hashCode()));
    }
    return shards == Shards.OF_EACH ? hash : Math.floorMod(hash, shards);
  }

  /** Any columns, as Flink keeps them. */
  private static final class Internal implements InputTypeStrategy {

    @Override
    public ArgumentCount getArgumentCount() {
      return ConstantArgumentCount.from(1);
    }

    @Override
    public Optional<List<DataType>> inferInputTypes(CallContext call, boolean throwOnFailure) {
      return Optional.of(call.getArgumentDataTypes().stream().map(DataType::toInternal).toList());
    }

    @Override
    public List<Signature> getExpectedSignatures(FunctionDefinition definition) {
      return List.of(Signature.of(Signature.Argument.ofGroupVarying("key")));
    }
  }
}
