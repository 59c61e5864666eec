package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.connector.kafka.source.enumerator.KafkaSourceEnumState;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.Test;

class EndingTest {

  private static final Set<TopicPartition> PLANES = Set.of(new TopicPartition("planes", 0));

  private final LogEnd end =
      new LogEnd(Map.of("properties.bootstrap.servers", KafkaReaders.NOBODY));
  private final Ending source = KafkaReaders.ending(KafkaReaders.source(), end, true);
  private final List<SourceEvent> sent = new ArrayList<>();

  /** A context that keeps the events that are sent by it. */
  private <T> T context(Class<T> type, Object otherwise) {
    return type.cast(
        Proxy.newProxyInstance(
            type.getClassLoader(),
            new Class<?>[] {type},
            (proxy, method, arguments) -> {
              switch (method.getName()) {
                case "sendSourceEventToCoordinator" -> sent.add((SourceEvent) arguments[0]);
                case "sendEventToSourceReader" -> sent.add((SourceEvent) arguments[1]);
                default -> {
                  return otherwise == null ? null : method.invoke(otherwise, arguments);
                }
              }
              return null;
            }));
  }

  /** What an enumerator of that state answers to the reader's question. */
  private List<SourceEvent> answers(KafkaSourceEnumState state) throws Exception {
    SplitEnumeratorContext<KafkaPartitionSplit> context =
        context(SplitEnumeratorContext.class, null);
    try (SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> enumerator =
        state == null
            ? source.createEnumerator(context)
            : source.restoreEnumerator(context, state)) {
      assertEquals(LogEnd.UNTOLD, end.left());
      SourceEvent question = sent.remove(0);
      enumerator.handleSourceEvent(0, question);
      List<SourceEvent> answers = List.copyOf(sent);
      sent.clear();
      return answers;
    }
  }

  @Test
  void aReaderWithoutAPartitionHasReadAllWhenAllAreAssigned() throws Exception {
    SourceReaderContext context = context(SourceReaderContext.class, KafkaReaders.context());
    try (SourceReader<RowData, KafkaPartitionSplit> reader = source.createReader(context)) {
      assertEquals(List.of(), answers(null));
      assertEquals(List.of(), answers(new KafkaSourceEnumState(Set.of(), PLANES, true)));
      List<SourceEvent> told = answers(new KafkaSourceEnumState(PLANES, Set.of(), true));
      assertEquals(1, told.size());
      reader.handleSourceEvents(told.get(0));
      assertEquals(0, end.left());
      assertEquals(List.of(), sent);
      // One that was added to the topic later is read as ever.
      reader.addSplits(List.of(new KafkaPartitionSplit(new TopicPartition("planes", 4), 5)));
      assertEquals(LogEnd.UNTOLD, end.left());
    }
  }
}
