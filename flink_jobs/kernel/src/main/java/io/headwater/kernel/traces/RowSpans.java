package io.headwater.kernel.traces;

/**
 * The spans of sampled rows: {@code process <view>}, from when the row was read until its values
 * were made, and under it {@code write <view>}, until they can be read.
 */
public interface RowSpans {

  /** Base address of an OTLP/HTTP collector; without one there are no spans. */
  String ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";

  /** A row that is being written. */
  interface Write {

    /** What the online store keeps: the write's traceparent and the row's event time. */
    String stored();

    /** It can be read, with the other {@code rows} of its batch. */
    default void written(int rows) {}

    /** A newer row took its place before it was written. */
    default void superseded() {}
  }

  /** Begin to write a row of {@code eventTime}, milliseconds since 1970. */
  Write begin(String view, RowTrace trace, long eventTime);

  /** Those that go where this process' environment says, the same for all its tasks. */
  static RowSpans exported() {
    String endpoint = System.getenv(ENDPOINT);
    return endpoint == null || endpoint.isBlank() ? none() : OtlpSpans.to(endpoint);
  }

  /** Makes none: what is stored leads to the span that sent the event. */
  private static RowSpans none() {
    return (view, trace, eventTime) -> () -> stored(trace.parent(), eventTime);
  }

  /** The text of {@link Write#stored}. */
  static String stored(String traceparent, long eventTime) {
    return traceparent + " " + eventTime;
  }
}
