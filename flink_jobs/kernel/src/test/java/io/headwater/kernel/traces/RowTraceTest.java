package io.headwater.kernel.traces;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import org.apache.flink.table.data.StringData;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Which headers count, and what becomes of them between operators. */
class RowTraceTest {

  private static final String PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

  @Test
  void aTraceIsReadAsItWasWritten() {
    RowTrace trace = RowTrace.read(StringData.fromString(PARENT)).applied();
    assertEquals(trace, RowTrace.parse(trace.text().toString()));
    assertEquals("4bf92f3577b34da6a3ce929d0e0e4736", trace.traceId());
    assertEquals("00f067aa0ba902b7", trace.spanId());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
      })
  void whatIsNoSampledTraceparentIsNone(String header) {
    assertNull(RowTrace.read(StringData.fromString(header)));
    assertNull(RowTrace.parse(header + " 1 2"));
  }

  @Test
  void otherTextIsNone() {
    for (String text : new String[] {PARENT, PARENT + " 1", PARENT + " 1 x", PARENT + " 1 2 3"}) {
      assertNull(RowTrace.parse(text));
    }
  }
}
