package io.headwater.kernel.json;

import static org.apache.flink.configuration.ConfigOptions.key;

import io.headwater.kernel.json.CheckedJson.Metadata;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.utils.DataTypeUtils;

/**
 * Makes the format of {@code 'format' = 'headwater-json'} from a table's options and columns.
 *
 * <p>Columns {@code METADATA FROM 'value.reason'} (STRING) and {@code 'value.payload'} (BYTES) are
 * null for a good record. A bad one has them and no other value; without a reason column it fails
 * the job.
 */
public final class CheckedJsonFactory implements DeserializationFormatFactory {

  static final ConfigOption<List<String>> REQUIRED =
      key("required")
          .stringType()
          .asList()
          .defaultValues()
          .withDescription("Fields that must be there and not null, as dotted paths.");
  static final ConfigOption<List<String>> TIMESTAMPS =
      key("timestamps")
          .stringType()
          .asList()
          .defaultValues()
          .withDescription("BIGINT fields that are milliseconds since 1970 UTC, as dotted paths.");
  static final ConfigOption<String> EVENT_TIME =
      key("event-time")
          .stringType()
          .noDefaultValue()
          .withDescription("The required field with the event time.");
  static final ConfigOption<Duration> AHEAD =
      key("ahead")
          .durationType()
          .defaultValue(Duration.ofDays(1))
          .withDescription("How far an event time may be ahead of the machine's clock.");
  static final ConfigOption<Boolean> DEBEZIUM =
      key("debezium")
          .booleanType()
          .defaultValue(false)
          .withDescription("Whether a record is Debezium's envelope: before, after and op.");
  static final ConfigOption<String> EXPECT =
      key("expect")
          .stringType()
          .defaultValue("[]")
          .withDescription("Expectations that count, or reject a record, as JSON.");
  static final ConfigOption<Boolean> COUNTED =
      key("counted")
          .booleanType()
          .defaultValue(true)
          .withDescription(
              "Whether this reader counts what is bad: one of a topic's readers does.");

  @Override
  public String factoryIdentifier() {
    return "headwater-json";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return Set.of();
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return Set.of(REQUIRED, TIMESTAMPS, EVENT_TIME, AHEAD, DEBEZIUM, EXPECT, COUNTED);
  }

  @Override
  public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
      DynamicTableFactory.Context context, ReadableConfig options) {
    FactoryUtil.validateFactoryOptions(this, options);
    Set<String> required = new HashSet<>(options.get(REQUIRED));
    String eventTime = options.get(EVENT_TIME);
    boolean debezium = options.get(DEBEZIUM);
    if (eventTime != null) {
      required.add(eventTime);
    }
    if (debezium) {
      required.add("op");
    }
    return new Format(
        new Rules(
            required,
            new HashSet<>(options.get(TIMESTAMPS)),
            eventTime,
            options.get(AHEAD).toMillis(),
            debezium,
            Expectation.parse(options.get(EXPECT)),
            options.get(COUNTED)));
  }

  private static final class Format implements DecodingFormat<DeserializationSchema<RowData>> {

    private final Rules rules;
    private List<Metadata> metadata = List.of();

    Format(Rules rules) {
      this.rules = rules;
    }

    @Override
    public DeserializationSchema<RowData> createRuntimeDecoder(
        DynamicTableSource.Context context, DataType physical) {
      RowType row = (RowType) physical.getLogicalType();
      RowReader reader =
          new RowReader("$", row, rules.required(), rules.timestamps(), rules.expectations());
      Set<String> needed = new TreeSet<>(rules.required());
      needed.addAll(rules.timestamps());
      rules.expectations().forEach(expectation -> needed.add(expectation.path()));
      if (rules.debezium()) {
        needed.addAll(List.of("before", "after"));
      }
      needed.removeAll(reader.paths());
      if (!needed.isEmpty()) {
        throw new ValidationException(
            "headwater-json: no columns %s, choose of %s".formatted(needed, reader.paths()));
      }
      List<DataTypes.Field> fields = new ArrayList<>();
      for (Metadata one : metadata) {
        fields.add(DataTypes.FIELD(one.name(), dataType(one)));
      }
      return new CheckedJson(
          reader,
          row.getFieldCount(),
          rules,
          metadata,
          context.createTypeInformation(DataTypeUtils.appendRowFields(physical, fields)));
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
      Map<String, DataType> found = new LinkedHashMap<>();
      for (Metadata one : Metadata.values()) {
        found.put(one.name().toLowerCase(Locale.ROOT), dataType(one));
      }
      return found;
    }

    private static DataType dataType(Metadata one) {
      return one == Metadata.REASON ? DataTypes.STRING() : DataTypes.BYTES();
    }

    @Override
    public void applyReadableMetadata(List<String> keys) {
      metadata =
          keys.stream().map(name -> Metadata.valueOf(name.toUpperCase(Locale.ROOT))).toList();
    }

    @Override
    public ChangelogMode getChangelogMode() {
      return ChangelogMode.insertOnly();
    }
  }
}
