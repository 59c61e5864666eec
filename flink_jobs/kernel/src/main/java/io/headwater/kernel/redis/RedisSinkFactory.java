package io.headwater.kernel.redis;

import static org.apache.flink.configuration.ConfigOptions.key;

import io.headwater.kernel.redis.Column.Kind;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.logical.RowType;

/** Makes the sink of {@code 'connector' = 'feast-redis'} from a table's options and columns. */
public final class RedisSinkFactory implements DynamicTableSinkFactory {

  static final ConfigOption<String> URL =
      text(
          "url",
          "redis://host:port, or rediss:// for TLS. It may hold user and password, but Flink prints"
              + " it: a password belongs to 'password-file'.");
  static final ConfigOption<String> PROJECT = text("project", "Feast's project.");
  static final ConfigOption<String> VIEW = text("view", "Feast's feature view.");
  static final ConfigOption<String> ENTITY_KEYS =
      text("entity-keys", "Columns that identify the entity, separated by ';' or ','.");
  static final ConfigOption<String> EVENT_TIME =
      text(
          "event-time",
          "Column with the time the features are of: BIGINT milliseconds since 1970 or"
              + " TIMESTAMP(_LTZ)(3).");
  static final ConfigOption<Long> EPOCH =
      key("epoch")
          .longType()
          .defaultValue(0L)
          .withDescription("A higher epoch wins over any event time of a lower one.");
  static final ConfigOption<String> DELETED =
      text("deleted", "BOOLEAN column that is true where the row deletes its entity.");
  static final ConfigOption<String> TRACE =
      text(
          "trace", "STRING column with the trace of a sampled row, as rolling's _trace; no value.");
  static final ConfigOption<String> USERNAME = text("username", "The ACL user.");
  static final ConfigOption<String> PASSWORD_FILE =
      text("password-file", "File on the task managers with the password, read at each connect.");
  static final ConfigOption<Boolean> CLUSTER =
      key("cluster")
          .booleanType()
          .defaultValue(false)
          .withDescription("Whether the URL is a node of a Redis Cluster.");
  static final ConfigOption<Integer> REPLICAS =
      number(
          "replicas",
          0,
          "Replicas that must have a batch before it counts as written, so that a failover to one"
              + " of them loses none; not with 'cluster'.");
  static final ConfigOption<Integer> BATCH_SIZE =
      number("batch-size", 1000, "Entities that are written at once.");
  static final ConfigOption<Integer> LINGER_MS =
      number("linger-ms", 200, "How long a row may wait for its batch to fill.");
  static final ConfigOption<Integer> TIMEOUT_MS =
      number("timeout-ms", 2000, "How long to wait for a connection, and for an answer.");
  static final ConfigOption<Integer> RETRIES =
      number(
          "retries",
          11,
          "Tries after the first, from 100 ms to 5 s apart; the default takes half a minute.");

  private static final String TIME_TYPES = "BIGINT, TIMESTAMP(3) or TIMESTAMP_LTZ(3)";
  private static final long EXACT_IN_LUA = 1L << 53;

  @Override
  public String factoryIdentifier() {
    return "feast-redis";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return Set.of(URL, PROJECT, VIEW, ENTITY_KEYS, EVENT_TIME);
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return Set.of(
        EPOCH,
        DELETED,
        TRACE,
        USERNAME,
        PASSWORD_FILE,
        CLUSTER,
        REPLICAS,
        BATCH_SIZE,
        LINGER_MS,
        TIMEOUT_MS,
        RETRIES,
        FactoryUtil.SINK_PARALLELISM);
  }

  @Override
  public DynamicTableSink createDynamicTableSink(Context context) {
    FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
    helper.validate();
    ReadableConfig options = helper.getOptions();
    RowType row = (RowType) context.getPhysicalRowDataType().getLogicalType();

    Map<String, Column> columns = new LinkedHashMap<>();
    for (int i = 0; i < row.getFieldCount(); i++) {
      RowType.RowField field = row.getFields().get(i);
      Kind kind =
          Kind.of(field.getType())
              .orElseThrow(
                  () ->
                      new ValidationException(
                          "column '%s' is %s, but Redis takes %s"
                              .formatted(
                                  field.getName(),
                                  field.getType().asSummaryString(),
                                  Column.TYPES)));
      columns.put(field.getName(), new Column(field.getName(), i, kind));
    }
    // What is taken here is no feature.
    Map<String, Column> features = new LinkedHashMap<>(columns);
    List<Column> keys = new ArrayList<>();
    for (String name : options.get(ENTITY_KEYS).split("[;,]", -1)) {
      keys.add(
          take(
              features,
              columns,
              ENTITY_KEYS,
              name.strip(),
              Set.of(Kind.STRING, Kind.BIGINT),
              "STRING or BIGINT"));
    }
    Column eventTime =
        take(
            features,
            columns,
            EVENT_TIME,
            options.get(EVENT_TIME),
            Set.of(Kind.BIGINT, Kind.TIMESTAMP),
            TIME_TYPES);
    Column deleted =
        options
            .getOptional(DELETED)
            .map(name -> take(features, columns, DELETED, name, Set.of(Kind.BOOLEAN), "BOOLEAN"))
            .orElse(null);
    Column trace =
        options
            .getOptional(TRACE)
            .map(name -> take(features, columns, TRACE, name, Set.of(Kind.STRING), "STRING"))
            .orElse(null);
    if (features.isEmpty()) {
      throw new ValidationException(
          "the table has no feature: each column is named by an option, of "
              + String.join(", ", columns.keySet()));
    }

    return new RedisSink(
        new RedisSinkConfig(
            RedisAccess.url(options.get(URL), "option 'url'"),
            options.get(USERNAME),
            options.get(PASSWORD_FILE),
            options.get(CLUSTER),
            replicas(options),
            notEmpty(options, PROJECT),
            notEmpty(options, VIEW),
            between(options, EPOCH, 0, EXACT_IN_LUA),
            List.copyOf(keys),
            eventTime,
            deleted,
            trace,
            List.copyOf(features.values()),
            (int) between(options, BATCH_SIZE, 1, 1_000_000),
            (int) between(options, LINGER_MS, 0, Integer.MAX_VALUE),
            (int) between(options, TIMEOUT_MS, 1, Integer.MAX_VALUE),
            (int) between(options, RETRIES, 0, Integer.MAX_VALUE)),
        options.getOptional(FactoryUtil.SINK_PARALLELISM).orElse(null));
  }

  private static int replicas(ReadableConfig options) {
    int replicas = (int) between(options, REPLICAS, 0, 100);
    if (replicas > 0 && options.get(CLUSTER)) {
      throw new ValidationException(
          "'replicas' = '%d': a cluster's nodes are not waited for, leave it out with 'cluster'"
              .formatted(replicas));
    }
    return replicas;
  }

  private static ConfigOption<String> text(String key, String description) {
    return key(key).stringType().noDefaultValue().withDescription(description);
  }

  private static ConfigOption<Integer> number(String key, int value, String description) {
    return key(key).intType().defaultValue(value).withDescription(description);
  }

  private static Column take(
      Map<String, Column> left,
      Map<String, Column> all,
      ConfigOption<String> option,
      String name,
      Set<Kind> kinds,
      String types) {
    Column column = all.get(name);
    if (column == null || !kinds.contains(column.kind())) {
      String choices =
          all.values().stream()
              .filter(candidate -> kinds.contains(candidate.kind()))
              .map(Column::name)
              .collect(Collectors.joining(", "));
      throw new ValidationException(
          "option '%s': %s; choose of the columns of type %s: %s"
              .formatted(
                  option.key(),
                  column == null
                      ? "no column '%s'".formatted(name)
                      : "column '%s' is %s".formatted(name, column.kind()),
                  types,
                  choices.isEmpty() ? "(there is none)" : choices));
    }
    if (left.remove(name) == null) {
      throw new ValidationException(
          "option '%s': column '%s' is named twice".formatted(option.key(), name));
    }
    return column;
  }

  private static String notEmpty(ReadableConfig options, ConfigOption<String> option) {
    String value = options.get(option);
    if (value.isBlank()) {
      throw new ValidationException("option '%s' is empty".formatted(option.key()));
    }
    return value;
  }

  private static long between(
      ReadableConfig options, ConfigOption<? extends Number> option, long min, long max) {
    long value = options.get(option).longValue();
    if (value < min || value > max) {
      throw new ValidationException(
          "option '%s' is %d, but goes from %d to %d".formatted(option.key(), value, min, max));
    }
    return value;
  }
}
