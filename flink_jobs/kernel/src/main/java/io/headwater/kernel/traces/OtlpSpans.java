package io.headwater.kernel.traces;

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/**
 * Sends them to a collector by OTLP over HTTP, in the background. Where nobody takes them they are
 * dropped. No attribute says which entity a row is of. The names are those of {@code
 * observability/tracing.py}.
 */
final class OtlpSpans implements RowSpans {

  private static final String SERVICE = "headwater-jobs";
  private static final AttributeKey<String> VIEW = AttributeKey.stringKey("headwater.view");
  private static final AttributeKey<Long> EVENT_TIME =
      AttributeKey.longKey("headwater.event_time_ms");
  private static final AttributeKey<Boolean> SUPERSEDED =
      AttributeKey.booleanKey("headwater.superseded");
  private static final AttributeKey<String> MESSAGING = AttributeKey.stringKey("messaging.system");
  private static final AttributeKey<String> OPERATION =
      AttributeKey.stringKey("messaging.operation.type");
  private static final AttributeKey<String> DATABASE = AttributeKey.stringKey("db.system.name");
  private static final AttributeKey<Long> BATCH = AttributeKey.longKey("db.operation.batch.size");

  private static OtlpSpans instance;

  private final Tracer tracer;

  private OtlpSpans(String endpoint) {
    String traces = endpoint.strip().replaceAll("/+$", "") + "/v1/traces";
    SdkTracerProvider provider =
        SdkTracerProvider.builder()
            .setResource(
                Resource.getDefault()
                    .merge(
                        Resource.create(
                            Attributes.of(AttributeKey.stringKey("service.name"), SERVICE))))
            .addSpanProcessor(
                BatchSpanProcessor.builder(
                        OtlpHttpSpanExporter.builder().setEndpoint(traces).build())
                    .setScheduleDelay(Duration.ofSeconds(1))
                    .build())
            .build();
    tracer = provider.get("headwater.kernel");
  }

  /** One for the process, as long as it lives: its tasks share a thread and a connection. */
  static synchronized OtlpSpans to(String endpoint) {
    if (instance == null) {
      instance = new OtlpSpans(endpoint);
    }
    return instance;
  }

  @Override
  public Write begin(String view, RowTrace trace, long eventTime) {
    SpanContext sent =
        SpanContext.createFromRemoteParent(
            trace.traceId(), trace.spanId(), TraceFlags.getSampled(), TraceState.getDefault());
    Span process =
        tracer
            .spanBuilder("process " + view)
            .setParent(Context.root().with(Span.wrap(sent)))
            .setSpanKind(SpanKind.CONSUMER)
            .setStartTimestamp(trace.readAt(), TimeUnit.MILLISECONDS)
            .setAttribute(MESSAGING, "kafka")
            .setAttribute(OPERATION, "process")
            .setAttribute(VIEW, view)
            .setAttribute(EVENT_TIME, eventTime)
            .startSpan();
    process.end(trace.appliedAt(), TimeUnit.MILLISECONDS);
    Span write =
        tracer
            .spanBuilder("write " + view)
            .setParent(Context.root().with(process))
            .setSpanKind(SpanKind.CLIENT)
            .setAttribute(DATABASE, "redis")
            .setAttribute(VIEW, view)
            .setAttribute(EVENT_TIME, eventTime)
            .startSpan();
    return new OneWrite(write, eventTime);
  }

  private record OneWrite(Span span, long eventTime) implements Write {
    @Override
    public String stored() {
      SpanContext context = span.getSpanContext();
      return RowSpans.stored(
          "00-%s-%s-01".formatted(context.getTraceId(), context.getSpanId()), eventTime);
    }

    @Override
    public void written(int rows) {
      span.setAttribute(BATCH, (long) rows);
      span.end();
    }

    @Override
    public void superseded() {
      span.setAttribute(SUPERSEDED, true);
      span.end();
    }
  }
}
