/**
 * One trace from a producer through a job to the online store, of the rows whose event was sampled.
 *
 * <p>A sampled event brings a W3C {@code traceparent} in its Kafka headers. It goes with its row
 * ({@link io.headwater.kernel.traces.RowTrace}), and the sink makes the spans ({@link
 * io.headwater.kernel.traces.RowSpans}). Nothing is made of other rows.
 */
package io.headwater.kernel.traces;
