package io.headwater.kernel.traces;

import javax.annotation.Nullable;
import org.apache.flink.table.data.StringData;

/**
 * A sampled event on its way through a job. Between operators it is text, {@code "<traceparent>
 * <read> <applied>"}.
 *
 * @param parent W3C traceparent of the span that sent the event, version 00, sampled
 * @param readAt when its row came to the operator of its key, milliseconds since 1970
 * @param appliedAt when the watermark had passed it and its values were made; 0 before
 */
public record RowTrace(String parent, long readAt, long appliedAt) {

  private static final int LENGTH = 55;
  private static final int TRACE_ID = 3;
  private static final int SPAN_ID = 36;
  private static final int FLAGS = 53;

  /** Of a row that is read now; null unless {@code traceparent} is one and says it is sampled. */
  @Nullable
  public static RowTrace read(StringData traceparent) {
    String text = traceparent.toString();
    return isSampled(text) ? new RowTrace(text, System.currentTimeMillis(), 0) : null;
  }

  /** Of {@link #text}; null for what is none. */
  @Nullable
  public static RowTrace parse(String text) {
    String[] parts = text.split(" ", -1);
    try {
      return parts.length == 3 && isSampled(parts[0])
          ? new RowTrace(parts[0], Long.parseLong(parts[1]), Long.parseLong(parts[2]))
          : null;
    } catch (NumberFormatException e) {
      return null;
    }
  }

  /** The same, its values made now. */
  public RowTrace applied() {
    return new RowTrace(parent, readAt, System.currentTimeMillis());
  }

  /** As it goes from operator to operator. */
  public StringData text() {
    return StringData.fromString(parent + " " + readAt + " " + appliedAt);
  }

  String traceId() {
    return parent.substring(TRACE_ID, SPAN_ID - 1);
  }

  String spanId() {
    return parent.substring(SPAN_ID, FLAGS - 1);
  }

  /** Anybody may have written the header, so nothing else may go on to Redis or into a span. */
  private static boolean isSampled(String text) {
    return text.length() == LENGTH
        && text.startsWith("00-")
        && text.charAt(SPAN_ID - 1) == '-'
        && text.charAt(FLAGS - 1) == '-'
        && isId(text, TRACE_ID, SPAN_ID - 1)
        && isId(text, SPAN_ID, FLAGS - 1)
        && isHex(text.charAt(FLAGS))
        && isHex(text.charAt(FLAGS + 1))
        && (Character.digit(text.charAt(FLAGS + 1), 16) & 1) == 1;
  }

  /** Hexadecimal and not zero. */
  private static boolean isId(String text, int from, int to) {
    boolean some = false;
    for (int i = from; i < to; i++) {
      if (!isHex(text.charAt(i))) {
        return false;
      }
      some |= text.charAt(i) != '0';
    }
    return some;
  }

  private static boolean isHex(char c) {
    return c >= '0' && c <= '9' || c >= 'a' && c <= 'f';
  }
}
