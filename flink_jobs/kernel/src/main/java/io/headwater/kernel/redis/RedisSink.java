package io.headwater.kernel.redis;

import java.util.Optional;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSink;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.sink.DataStreamSinkProvider;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.data.RowData;
import org.apache.flink.types.RowKind;

/** The sink of one table. */
record RedisSink(RedisSinkConfig config, Integer parallelism) implements DynamicTableSink {

  @Override
  public ChangelogMode getChangelogMode(ChangelogMode requested) {
    // Deletes in full, not only their keys: the event time decides whether they land.
    return requested.containsOnly(RowKind.INSERT)
        ? ChangelogMode.insertOnly()
        : ChangelogMode.upsert(false);
  }

  @Override
  public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
    // Not SinkV2Provider, since with it the planner chooses the name.
    return new DataStreamSinkProvider() {
      @Override
      public DataStreamSink<?> consumeDataStream(
          ProviderContext provider, DataStream<RowData> rows) {
        // As many writers as the input has keeps its rows in place and in order.
        DataStreamSink<RowData> sink =
            rows.sinkTo(new WriterSink(config))
                .name(asSummaryString())
                .setParallelism(parallelism == null ? rows.getParallelism() : parallelism);
        provider.generateUid("feast-redis").ifPresent(sink::uid);
        return sink;
      }

      @Override
      public Optional<Integer> getParallelism() {
        return Optional.ofNullable(parallelism);
      }
    };
  }

  @Override
  public DynamicTableSink copy() {
    return this;
  }

  @Override
  public String asSummaryString() {
    return config.toString();
  }

  private record WriterSink(RedisSinkConfig config) implements Sink<RowData> {
    @Override
    public SinkWriter<RowData> createWriter(WriterInitContext context) {
      return new RedisWriter(config, context.metricGroup(), context.getProcessingTimeService());
    }
  }
}
