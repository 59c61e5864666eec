package io.headwater.kernel.replay;

import static org.apache.flink.configuration.ConfigOptions.key;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.annotation.Nullable;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSource;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsProjectionPushDown;
import org.apache.flink.table.connector.source.abilities.SupportsWatermarkPushDown;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.flink.CatalogLoader;
import org.apache.iceberg.flink.TableLoader;

/**
 * Makes the source {@code 'connector' = 'headwater-archive'} from a table's options.
 *
 * <p>It reads ranges of offsets from an Iceberg table whose rows are records of Kafka, see {@link
 * ArchiveSource}. A column of type BIGINT reads a timestamp as milliseconds since 1970 UTC.
 */
public final class ArchiveFactory implements DynamicTableSourceFactory {

  static final ConfigOption<Map<String, String>> CATALOG =
      key("catalog")
          .mapType()
          .noDefaultValue()
          .withDescription("The catalog's properties, its implementation among them.");
  static final ConfigOption<String> NAMESPACE =
      key("namespace").stringType().noDefaultValue().withDescription("The table's namespace.");
  static final ConfigOption<String> TABLE =
      key("table").stringType().noDefaultValue().withDescription("The table.");
  static final ConfigOption<Long> SNAPSHOT =
      key("snapshot").longType().noDefaultValue().withDescription("Which of its snapshots.");
  static final ConfigOption<List<String>> OFFSETS =
      key("offsets")
          .stringType()
          .asList()
          .noDefaultValue()
          .withDescription("partition:first:end for each partition; end is not read.");
  static final ConfigOption<Boolean> FOLLOW =
      key("follow")
          .booleanType()
          .defaultValue(false)
          .withDescription("The log goes on after it: when all is read it stays, as idle.");
  static final ConfigOption<String> PACE_URL =
      key("pace-url").stringType().noDefaultValue().withDescription("redis://host:port");
  static final ConfigOption<String> PACE_KEY =
      key("pace-key")
          .stringType()
          .noDefaultValue()
          .withDescription("Holds the records a second; without it there is no limit.");
  static final ConfigOption<String> PACE_USERNAME =
      key("pace-username").stringType().noDefaultValue().withDescription("The user of Redis.");
  static final ConfigOption<String> PACE_PASSWORD_FILE =
      key("pace-password-file").stringType().noDefaultValue().withDescription("Its password.");

  @Override
  public String factoryIdentifier() {
    return "headwater-archive";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return Set.of(CATALOG, NAMESPACE, TABLE, SNAPSHOT, OFFSETS);
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return Set.of(FOLLOW, PACE_URL, PACE_KEY, PACE_USERNAME, PACE_PASSWORD_FILE);
  }

  @Override
  public DynamicTableSource createDynamicTableSource(Context context) {
    FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
    helper.validate();
    ReadableConfig options = helper.getOptions();
    Map<String, String> catalog = new HashMap<>(options.get(CATALOG));
    String implementation = catalog.remove("catalog-impl");
    if (implementation == null) {
      throw new ValidationException("option 'catalog': needs catalog-impl");
    }
    TableLoader loader =
        TableLoader.fromCatalog(
            CatalogLoader.custom("headwater", catalog, new Configuration(), implementation),
            TableIdentifier.of(options.get(NAMESPACE), options.get(TABLE)));
    Pace pace =
        options
            .getOptional(PACE_KEY)
            .map(
                key ->
                    Pace.of(
                        options.get(PACE_URL),
                        options.get(PACE_USERNAME),
                        options.get(PACE_PASSWORD_FILE),
                        key))
            .orElse(null);
    return new ArchiveTable(
        loader,
        options.get(TABLE),
        options.get(SNAPSHOT),
        splits(options.get(OFFSETS)),
        options.get(FOLLOW),
        pace,
        context.getPhysicalRowDataType());
  }

  private static List<ArchiveSplit> splits(List<String> texts) {
    List<ArchiveSplit> splits = new ArrayList<>();
    for (String text : texts) {
      String[] parts = text.split(":");
      try {
        splits.add(
            new ArchiveSplit(
                Integer.parseInt(parts[0]), Long.parseLong(parts[1]), Long.parseLong(parts[2])));
      } catch (IndexOutOfBoundsException | NumberFormatException e) {
        throw new ValidationException(
            "option 'offsets': expected partition:first:end, got '%s'".formatted(text));
      }
    }
    return splits;
  }

  private static final class ArchiveTable
      implements ScanTableSource, SupportsWatermarkPushDown, SupportsProjectionPushDown {

    private final TableLoader loader;
    private final String name;
    private final long snapshot;
    private final List<ArchiveSplit> splits;
    private final boolean follow;
    @Nullable private final Pace pace;
    private DataType produced;
    private WatermarkStrategy<RowData> watermarks = WatermarkStrategy.noWatermarks();

    ArchiveTable(
        TableLoader loader,
        String name,
        long snapshot,
        List<ArchiveSplit> splits,
        boolean follow,
        @Nullable Pace pace,
        DataType produced) {
      this.loader = loader;
      this.name = name;
      this.snapshot = snapshot;
      this.splits = splits;
      this.follow = follow;
      this.pace = pace;
      this.produced = produced;
    }

    @Override
    public ChangelogMode getChangelogMode() {
      return ChangelogMode.insertOnly();
    }

    @Override
    public void applyWatermark(WatermarkStrategy<RowData> strategy) {
      watermarks = new NeverIdle(strategy);
    }

    @Override
    public boolean supportsNestedProjection() {
      return false;
    }

    @Override
    public void applyProjection(int[][] projection, DataType type) {
      produced = type;
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
      TypeInformation<RowData> type = context.createTypeInformation(produced);
      ArchiveSource source =
          new ArchiveSource(
              loader, snapshot, splits, (RowType) produced.getLogicalType(), follow, pace);
      WatermarkStrategy<RowData> strategy = watermarks;
      return new DataStreamScanProvider() {
        @Override
        public DataStream<RowData> produceDataStream(
            ProviderContext provider, StreamExecutionEnvironment environment) {
          DataStreamSource<RowData> stream =
              environment.fromSource(source, strategy, "archive-" + name, type);
          provider.generateUid("archive").ifPresent(stream::uid);
          return stream;
        }

        @Override
        public boolean isBounded() {
          return !follow;
        }
      };
    }

    @Override
    public DynamicTableSource copy() {
      ArchiveTable copy = new ArchiveTable(loader, name, snapshot, splits, follow, pace, produced);
      copy.watermarks = watermarks;
      return copy;
    }

    @Override
    public String asSummaryString() {
      return "archive of " + name;
    }
  }
}
