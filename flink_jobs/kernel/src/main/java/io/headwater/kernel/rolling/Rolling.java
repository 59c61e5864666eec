package io.headwater.kernel.rolling;

import io.headwater.kernel.planner.InternalRows;
import io.headwater.kernel.state.StateOfKey;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import javax.annotation.Nullable;
import org.apache.flink.metrics.Counter;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ProcessTableFunction;
import org.apache.flink.table.functions.SpecializedFunction;
import org.apache.flink.table.functions.TableSemantics;
import org.apache.flink.table.functions.UserDefinedFunction;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.CallContext;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.StaticArgument;
import org.apache.flink.table.types.inference.StaticArgumentTrait;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.table.types.logical.RowType;

/**
 * {@code rolling}: all rolling features of a view in one operator.
 *
 * <pre>{@code
 * SELECT * FROM rolling(
 *   input => TABLE departures PARTITION BY origin,
 *   spec => '{"time": "rowtime", "features": [{"name": "n_1h", "op": "count", "column": null,
 *                                              "window_ms": 3600000, "tile_ms": 60000}]}',
 *   uid => 'origin_delays')
 * }</pre>
 *
 * <p>Returns the partition columns and {@code result}, a row of one field a feature, then {@code
 * event_time} and {@code late_row}. (Were they columns, each of them would be found anew through
 * the three rows that Flink joins them from, which costs more than to compute it.) A row is emitted
 * for each event time of a key once the watermark passed it, and again whenever the expiry of a
 * tile changes a value, down to the empty value (0 for counts, null for the others). Aggregations
 * over a column ignore its nulls. Rows with the same key and time count together, in an order given
 * by their content. A BIGINT sum wraps around on overflow.
 *
 * <p>Where a partition is a shard of many keys, {@code "keys"} in the spec names their columns, and
 * {@code result} ends in them: {@code PARTITION BY _shard}, which is {@code shard(origin)}, with
 * {@code "keys": ["origin"]}.
 *
 * <p>With {@code "trace": "<column>"} in the spec the result has a column {@code _trace} besides:
 * of the newest sampled row among those of its time, null where there is none and for what expired.
 *
 * <p>A row at or before the watermark, or without a time, is not applied. It comes out at once, as
 * a JSON object in {@code late_row}, without features, and is counted in the metric {@code
 * lateRows}. That is why the call takes no {@code on_time}: with it Flink drops such rows itself.
 */
public final class Rolling extends ProcessTableFunction<RowData> implements SpecializedFunction {

  private static final long serialVersionUID = 1L;
  private static final int INPUT = 0;
  private static final int SPEC = 1;

  /** So many keys of a shard stay objects. */
  private static final int FEW = 32;

  private final Spec spec;
  private final int shards;

  private transient Keys keys;

  /** Where the backend is none that keeps objects. */
  @Nullable private transient Apart apart;

  /** The one key of the map state, which gives objects without a conversion at each call. */
  private transient Object one;

  private transient GenericRowData out;
  private transient Counter lateRows;

  /** Used by {@code CREATE FUNCTION}; the planner specializes it for each call. */
  public Rolling() {
    this(null, Shards.OF_EACH);
  }

  private Rolling(Spec spec, int shards) {
    this.spec = spec;
    this.shards = shards;
  }

  @Override
  public UserDefinedFunction specialize(SpecializedContext context) {
    Spec spec = parse(context.getCallContext());
    return new Rolling(
        spec, spec.keys.length == 0 ? Shards.OF_ONE_KEY : Shards.of(context.getConfiguration()));
  }

  @Override
  public TypeInference getTypeInference(DataTypeFactory typeFactory) {
    return TypeInference.newBuilder()
        .staticArguments(
            StaticArgument.table(
                "input",
                RowData.class,
                false,
                EnumSet.of(StaticArgumentTrait.TABLE, StaticArgumentTrait.SET_SEMANTIC_TABLE)),
            StaticArgument.scalar("spec", DataTypes.STRING().notNull(), false))
        .inputTypeStrategy(spec == null ? InputTypeStrategies.WILDCARD : new InternalRows(INPUT))
        .stateTypeStrategies(
            StateOfKey.of(StoredState.class, isSharded() ? DataTypes.BIGINT() : DataTypes.INT()))
        .outputTypeStrategy(call -> Optional.of(outputType(parse(call))))
        .build();
  }

  /** Which is part of the state's type, since a key's state is found by it. */
  private boolean isSharded() {
    return shards > Shards.OF_ONE_KEY;
  }

  private static Spec parse(CallContext call) {
    TableSemantics input =
        call.getTableSemantics(INPUT)
            .orElseThrow(() -> new ValidationException("rolling: input must be a table"));
    String json =
        call.getArgumentValue(SPEC, String.class)
            .orElseThrow(() -> new ValidationException("rolling: spec must be a string literal"));
    return Spec.parse(json, (RowType) input.dataType().getLogicalType());
  }

  private static DataType outputType(Spec spec) {
    List<DataTypes.Field> fields = new ArrayList<>();
    for (Spec.Feature feature : spec.features) {
      fields.add(DataTypes.FIELD(feature.name(), feature.type().dataType()));
    }
    fields.add(DataTypes.FIELD("event_time", DataTypes.TIMESTAMP_LTZ(3)));
    fields.add(DataTypes.FIELD("late_row", DataTypes.STRING()));
    if (spec.trace >= 0) {
      fields.add(DataTypes.FIELD("_trace", DataTypes.STRING()));
    }
    for (Spec.Column key : spec.keys) {
      fields.add(DataTypes.FIELD(key.name(), key.type().dataType()));
    }
    DataType result = DataTypes.ROW(fields).notNull().bridgedTo(RowData.class);
    return DataTypes.ROW(DataTypes.FIELD("result", result)).bridgedTo(RowData.class);
  }

  @Override
  public void open(FunctionContext context) {
    one = isSharded() ? (Object) 1L : (Object) 1;
    keys = new Keys(spec, shards, FEW);
    apart = shards == Shards.OF_EACH ? new Apart(keys) : null;
    out = new GenericRowData(1);
    lateRows = context.getMetricGroup().counter("lateRows");
  }

  /** Buffers a row; called by Flink for each. */
  public void eval(Context context, MapView<Object, StoredState> states, RowData input, String json)
      throws Exception {
    TimeContext<Long> clock = context.timeContext(Long.class);
    Long watermark = clock.currentWatermark();
    boolean hasTime = !input.isNullAt(spec.time);
    long time = hasTime ? input.getTimestamp(spec.time, 3).getMillisecond() : KeyState.NEVER;
    if (!hasTime || watermark != null && time <= watermark) {
      late(input);
      return;
    }
    if (apart != null) {
      if (!apart.add(states, input, time, clock::registerOnTime)) {
        late(input);
      }
      return;
    }
    StoredState stored = states.get(one);
    if (stored == null) {
      stored = new StoredState(keys.newShard());
    }
    Shard shard = stored.shard();
    keys.check(shard);
    if (keys.add(shard, input, time, clock::registerOnTime)) {
      states.put(one, stored);
    } else {
      late(input);
    }
  }

  private void late(RowData input) {
    lateRows.inc();
    emit(keys.late(input));
  }

  private void emit(RowData result) {
    out.setField(0, result);
    collect(out);
  }

  /** Handles what is due in a shard; called by Flink when the watermark passes a timer. */
  public void onTimer(OnTimerContext context, MapView<Object, StoredState> states)
      throws Exception {
    TimeContext<Long> clock = context.timeContext(Long.class);
    if (apart != null) {
      apart.advance(states, clock.currentWatermark(), this::emit, clock::registerOnTime);
      return;
    }
    StoredState stored = states.get(one);
    if (stored == null) {
      return;
    }
    Shard shard = stored.shard();
    keys.check(shard);
    keys.advance(shard, clock.currentWatermark(), this::emit, clock::registerOnTime);
    // An empty one of many still says which rows are late.
    if (shard.size() == 0 && !isSharded()) {
      states.clear();
    } else {
      states.put(one, stored);
    }
  }
}
