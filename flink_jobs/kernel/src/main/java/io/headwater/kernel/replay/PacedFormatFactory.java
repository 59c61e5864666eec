package io.headwater.kernel.replay;

import static org.apache.flink.configuration.ConfigOptions.key;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.util.Collector;

/**
 * Makes the format of {@code 'format' = 'paced'}: another format, no faster than a {@link Pace}.
 *
 * <p>A format sees each record of a source once, whatever the plan behind it, and holding one back
 * holds back the source.
 */
public final class PacedFormatFactory implements DeserializationFormatFactory {

  static final ConfigOption<String> FORMAT =
      key("format").stringType().noDefaultValue().withDescription("The format of the records.");
  static final ConfigOption<Map<String, String>> OPTIONS =
      key("options")
          .mapType()
          .defaultValue(Map.of())
          .withDescription("That format's own options, without its name before them.");
  static final ConfigOption<String> URL =
      key("url").stringType().noDefaultValue().withDescription("redis://host:port");
  static final ConfigOption<String> KEY =
      key("key").stringType().noDefaultValue().withDescription("Holds the records a second.");
  static final ConfigOption<String> USERNAME =
      key("username").stringType().noDefaultValue().withDescription("The user of Redis.");
  static final ConfigOption<String> PASSWORD_FILE =
      key("password-file").stringType().noDefaultValue().withDescription("Holds its password.");

  @Override
  public String factoryIdentifier() {
    return "paced";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return Set.of(FORMAT, URL, KEY);
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return Set.of(OPTIONS, USERNAME, PASSWORD_FILE);
  }

  @Override
  public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
      DynamicTableFactory.Context context, ReadableConfig options) {
    FactoryUtil.validateFactoryOptions(this, options);
    DeserializationFormatFactory inner =
        FactoryUtil.discoverFactory(
            context.getClassLoader(), DeserializationFormatFactory.class, options.get(FORMAT));
    return new PacedFormat(
        inner.createDecodingFormat(context, Configuration.fromMap(options.get(OPTIONS))),
        Pace.of(
            options.get(URL), options.get(USERNAME), options.get(PASSWORD_FILE), options.get(KEY)));
  }

  private record PacedFormat(DecodingFormat<DeserializationSchema<RowData>> inner, Pace pace)
      implements DecodingFormat<DeserializationSchema<RowData>> {

    @Override
    public DeserializationSchema<RowData> createRuntimeDecoder(
        DynamicTableSource.Context context, DataType physical) {
      return new Paced(inner.createRuntimeDecoder(context, physical), pace);
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
      return inner.listReadableMetadata();
    }

    @Override
    public void applyReadableMetadata(List<String> names) {
      inner.applyReadableMetadata(names);
    }

    @Override
    public ChangelogMode getChangelogMode() {
      return inner.getChangelogMode();
    }
  }

  private static final class Paced implements DeserializationSchema<RowData> {

    private static final long serialVersionUID = 1L;

    private final DeserializationSchema<RowData> inner;
    private final Pace pace;
    private transient Pace.Gate gate;

    Paced(DeserializationSchema<RowData> inner, Pace pace) {
      this.inner = inner;
      this.pace = pace;
    }

    @Override
    public void open(InitializationContext context) throws Exception {
      inner.open(context);
      gate = pace.open();
      context.getMetricGroup().gauge("paceRowsPerSecond", (Gauge<Double>) gate::rate);
      context.getMetricGroup().gauge("paceHeldMs", (Gauge<Long>) gate::heldMs);
    }

    @Override
    public void deserialize(byte[] message, Collector<RowData> out) throws IOException {
      try {
        gate.pass();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("interrupted while a record was held back", e);
      }
      inner.deserialize(message, out);
    }

    @Override
    public RowData deserialize(byte[] message) throws IOException {
      throw new UnsupportedOperationException("records are collected");
    }

    @Override
    public boolean isEndOfStream(RowData next) {
      return inner.isEndOfStream(next);
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
      return inner.getProducedType();
    }
  }
}
