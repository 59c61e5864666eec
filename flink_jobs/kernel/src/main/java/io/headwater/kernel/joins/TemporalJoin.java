package io.headwater.kernel.joins;

import io.headwater.kernel.planner.InternalRows;
import io.headwater.kernel.state.Backends;
import io.headwater.kernel.state.StateOfKey;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.IntStream;
import org.apache.flink.metrics.Counter;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.data.utils.JoinedRowData;
import org.apache.flink.table.data.utils.ProjectedRowData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ProcessTableFunction;
import org.apache.flink.table.functions.SpecializedFunction;
import org.apache.flink.table.functions.UserDefinedFunction;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.CallContext;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.StaticArgument;
import org.apache.flink.table.types.inference.StaticArgumentTrait;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.RowType;

/**
 * {@code temporal_join}: each event with the row that was true for its key at its time.
 *
 * <pre>{@code
 * SELECT * FROM temporal_join(
 *   events => TABLE departures PARTITION BY tailnum,
 *   versions => TABLE planes PARTITION BY tailnum,
 *   uid => 'departures_planes')
 * }</pre>
 *
 * <p>The columns of {@code versions} are the key, the instant since when the row is true (BIGINT,
 * milliseconds), then either whether it is deleted from then on (BOOLEAN), or the last instant at
 * which it counts (BIGINT), and the values. A BOOLEAN makes them the changes of a table: of two
 * since the same instant the later in the log counts. A BIGINT makes them events of a stream, which
 * have no order: the greater one counts. The watermark says that all versions since then or before
 * have come; one that comes later serves later events, and is counted in the metric {@code
 * lateVersions}.
 *
 * <p>The time of an event is in its column {@code rowtime}. Returns both keys, the other columns of
 * the event, and the values, null where there is no row. An event that is late itself goes on at
 * once, with what is still known, for those behind to deal with: that is why the call takes no
 * {@code on_time}, with which Flink would drop it.
 */
public final class TemporalJoin extends ProcessTableFunction<RowData>
    implements SpecializedFunction {

  private static final long serialVersionUID = 1L;
  private static final int EVENTS = 0;
  private static final int VERSIONS = 1;
  private static final int SINCE = 1;
  private static final int DELETED_OR_UNTIL = 2;
  private static final int FIRST_VALUE = 3;
  private static final DataType TIME = DataTypes.TIMESTAMP_LTZ(3);

  /** The one key of the map state, which gives objects without a conversion at each call. */
  private static final Integer ONE = 1;

  private final Columns columns;

  /** Where the backend is none that keeps objects. */
  private final boolean apart;

  private transient RowDataSerializer eventRows;
  private transient RowDataSerializer valueRows;
  private transient ProjectedRowData eventColumns;
  private transient ProjectedRowData values;
  private transient int fingerprint;
  private transient int fingerprintOfTypes;
  private transient RowData noValues;
  private transient JoinedRowData joined;
  private transient Comparator<BinaryRowData> ties;
  private transient Counter lateVersions;

  /** The columns of a call: those of the event with their positions, and the values. */
  record Columns(RowType event, int time, int[] kept, RowType values, boolean ofTable)
      implements Serializable {

    /** Of what state holds, by name and type. */
    int fingerprint() {
      return (event.toString() + values).hashCode();
    }

    /** The same by type alone, which state of version 1 has. */
    int fingerprintOfTypes() {
      return (event.getChildren().toString() + values.getChildren()).hashCode();
    }
  }

  /** Used by {@code CREATE FUNCTION}; the planner specializes it for each call. */
  public TemporalJoin() {
    this(null, false);
  }

  private TemporalJoin(Columns columns, boolean apart) {
    this.columns = columns;
    this.apart = apart;
  }

  @Override
  public UserDefinedFunction specialize(SpecializedContext context) {
    CallContext call = context.getCallContext();
    LogicalType second =
        fields(call, VERSIONS).get(DELETED_OR_UNTIL).getDataType().getLogicalType();
    return new TemporalJoin(
        new Columns(
            rowType(fields(call, EVENTS)),
            time(call),
            kept(call),
            rowType(fields(call, VERSIONS).subList(FIRST_VALUE, fields(call, VERSIONS).size())),
            second.is(LogicalTypeRoot.BOOLEAN)),
        !Backends.keepsObjects(context.getConfiguration()));
  }

  @Override
  public TypeInference getTypeInference(DataTypeFactory typeFactory) {
    EnumSet<StaticArgumentTrait> traits =
        EnumSet.of(StaticArgumentTrait.TABLE, StaticArgumentTrait.SET_SEMANTIC_TABLE);
    return TypeInference.newBuilder()
        .staticArguments(
            StaticArgument.table("events", RowData.class, false, traits),
            StaticArgument.table("versions", RowData.class, false, traits))
        .inputTypeStrategy(
            columns == null ? InputTypeStrategies.WILDCARD : new InternalRows(EVENTS, VERSIONS))
        .stateTypeStrategies(StateOfKey.of(StoredTimeline.class))
        .outputTypeStrategy(call -> Optional.of(outputType(call)))
        .build();
  }

  private static List<DataTypes.Field> fields(CallContext call, int table) {
    return call.getTableSemantics(table)
        .map(semantics -> DataType.getFields(semantics.dataType()))
        .orElseThrow(() -> new ValidationException("temporal_join: two tables are needed"));
  }

  /** The event's columns but its key, which Flink adds. */
  private static int[] kept(CallContext call) {
    int[] keys = call.getTableSemantics(EVENTS).orElseThrow().partitionByColumns();
    return IntStream.range(0, fields(call, EVENTS).size())
        .filter(i -> IntStream.of(keys).noneMatch(key -> key == i))
        .toArray();
  }

  private static int[] values(CallContext call) {
    return IntStream.range(FIRST_VALUE, fields(call, VERSIONS).size()).toArray();
  }

  private static int time(CallContext call) {
    List<DataTypes.Field> fields = fields(call, EVENTS);
    return IntStream.range(0, fields.size())
        .filter(i -> fields.get(i).getName().equals("rowtime"))
        .findFirst()
        .orElseThrow(
            () -> new ValidationException("temporal_join: events must have a column rowtime"));
  }

  private static RowType rowType(List<DataTypes.Field> fields) {
    return (RowType) DataTypes.ROW(fields).getLogicalType();
  }

  private static DataType outputType(CallContext call) {
    List<DataTypes.Field> output = new ArrayList<>();
    for (int i : kept(call)) {
      DataTypes.Field field = fields(call, EVENTS).get(i);
      // Whatever it is to the planner, here it is a time like any other.
      output.add(i == time(call) ? DataTypes.FIELD(field.getName(), TIME) : field);
    }
    for (int i : values(call)) {
      DataTypes.Field field = fields(call, VERSIONS).get(i);
      output.add(DataTypes.FIELD(field.getName(), field.getDataType().nullable()));
    }
    return DataTypes.ROW(output).bridgedTo(RowData.class);
  }

  @Override
  public void open(FunctionContext context) {
    eventRows = new RowDataSerializer(columns.event);
    LogicalType[] types = columns.values.getChildren().toArray(LogicalType[]::new);
    valueRows = new RowDataSerializer(types);
    fingerprint = columns.fingerprint();
    fingerprintOfTypes = columns.fingerprintOfTypes();
    eventColumns = ProjectedRowData.from(columns.kept);
    values =
        ProjectedRowData.from(IntStream.range(FIRST_VALUE, FIRST_VALUE + types.length).toArray());
    noValues = new GenericRowData(types.length);
    joined = new JoinedRowData();
    ties = columns.ofTable ? null : new ByContent(types);
    lateVersions = context.getMetricGroup().counter("lateVersions");
  }

  /** Buffers an event or a version; called by Flink for each, the other one being null. */
  public void eval(
      Context context, MapView<Integer, StoredTimeline> states, RowData event, RowData version)
      throws Exception {
    TimeContext<Long> clock = context.timeContext(Long.class);
    long watermark = Objects.requireNonNullElse(clock.currentWatermark(), Long.MIN_VALUE);
    if (apart) {
      if (version == null) {
        addApart(states, eventRows.toBinaryRow(event), watermark, clock);
      } else {
        Apart known = new Apart(states, fingerprint, fingerprintOfTypes);
        add(known.timeline(), version, watermark);
        known.keep(clock::registerOnTime);
      }
      return;
    }
    StoredTimeline stored = states.get(ONE);
    if (stored == null) {
      stored = new StoredTimeline(new Timeline(fingerprint));
    }
    Timeline timeline = stored.timeline();
    timeline.check(fingerprint, fingerprintOfTypes);
    if (version != null) {
      add(timeline, version, watermark);
    } else {
      BinaryRowData row = eventRows.toBinaryRow(event);
      long time = time(row);
      if (time <= watermark) {
        emit(row, timeline.at(time));
        return;
      }
      timeline.addEvent(time, row.copy());
    }
    keep(states, stored, clock);
  }

  private void addApart(
      MapView<Integer, StoredTimeline> states,
      BinaryRowData row,
      long watermark,
      TimeContext<Long> clock)
      throws Exception {
    long time = time(row);
    Apart known = new Apart(states, fingerprint, fingerprintOfTypes);
    if (time <= watermark) {
      emit(row, known.timeline().at(time));
    } else {
      known.add(time, row, clock::registerOnTime);
    }
  }

  private long time(BinaryRowData row) {
    return row.isNullAt(columns.time)
        ? Long.MIN_VALUE
        : row.getTimestamp(columns.time, 3).getMillisecond();
  }

  private void add(Timeline timeline, RowData version, long watermark) {
    boolean deleted = columns.ofTable && version.getBoolean(DELETED_OR_UNTIL);
    if (timeline.addVersion(
        version.getLong(SINCE),
        columns.ofTable ? Timeline.FOR_EVER : version.getLong(DELETED_OR_UNTIL),
        deleted ? null : valueRows.toBinaryRow(values.replaceRow(version)).copy(),
        ties,
        watermark)) {
      lateVersions.inc();
    }
  }

  /** Emits the events that are due; called by Flink when the watermark passes a timer. */
  public void onTimer(OnTimerContext context, MapView<Integer, StoredTimeline> states)
      throws Exception {
    TimeContext<Long> clock = context.timeContext(Long.class);
    if (apart) {
      new Apart(states, fingerprint, fingerprintOfTypes)
          .advance(clock.currentWatermark(), this::emit, clock::registerOnTime);
      return;
    }
    StoredTimeline stored = states.get(ONE);
    if (stored == null) {
      return;
    }
    Timeline timeline = stored.timeline();
    timeline.check(fingerprint, fingerprintOfTypes);
    timeline.advance(clock.currentWatermark(), this::emit);
    timeline.timer = Timeline.FOR_EVER;
    keep(states, stored, clock);
  }

  private static void keep(
      MapView<Integer, StoredTimeline> states, StoredTimeline stored, TimeContext<Long> clock)
      throws Exception {
    Timeline timeline = stored.timeline();
    if (timeline.isEmpty()) {
      states.clear();
      return;
    }
    long due = timeline.due();
    if (due < timeline.timer) {
      timeline.timer = due;
      clock.registerOnTime(due);
    }
    states.put(ONE, stored);
  }

  private void emit(BinaryRowData event, BinaryRowData row) {
    joined.replace(eventColumns.replaceRow(event), row == null ? noValues : row);
    collect(joined);
  }
}
