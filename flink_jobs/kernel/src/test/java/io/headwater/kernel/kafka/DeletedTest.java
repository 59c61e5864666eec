package io.headwater.kernel.kafka;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.base.source.reader.SourceReaderBase;
import org.apache.flink.connector.base.source.reader.fetcher.SplitFetcherManager;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.runtime.throwable.ThrowableClassifier;
import org.apache.flink.runtime.throwable.ThrowableType;
import org.junit.jupiter.api.Test;

class DeletedTest {

  private static final TopicPartition ZERO = new TopicPartition("planes", 0);

  /** What a table's readers do where the offset that comes next is not there. */
  private static String reset(boolean passesByWhatIsDeleted) {
    KafkaSource<String> source = KafkaReaders.source();
    KafkaReaders.ending(source, new LogEnd(Map.of()), passesByWhatIsDeleted);
    Properties client = (Properties) Hidden.read(KafkaSource.class, "props", source);
    return client.getProperty("auto.offset.reset");
  }

  @Test
  void onlyATableThatIsReadWholeHasItsReadersFail() {
    assertEquals("none", reset(false));
    assertEquals("earliest", reset(true));
  }

  @Test
  void aReaderSaysWhatIsDeletedAndThatStartingAgainIsOfNoUse() throws Exception {
    RuntimeException told =
        failingOf(new OffsetOutOfRangeException("out of range", Map.of(ZERO, 12L)));
    assertTrue(told.getMessage().contains("offset 12 of planes-0"), told.getMessage());
    assertTrue(
        ThrowableClassifier.findThrowableOfThrowableType(told, ThrowableType.NonRecoverableError)
            .isPresent());
  }

  @Test
  void anotherFailureIsLeftAsItIs() throws Exception {
    Throwable failure = new IllegalStateException("another");
    assertEquals(failure, failingOf(failure).getCause());
  }

  /** What a reader throws whose thread that fetches has ended with that. */
  @SuppressWarnings("unchecked")
  private static RuntimeException failingOf(Throwable failure) throws Exception {
    SourceReader<String, KafkaPartitionSplit> kafka = KafkaReaders.reader();
    try (EndingReader<String> reader = new EndingReader<>(kafka, () -> {})) {
      reader.start();
      reader.addSplits(List.of(new KafkaPartitionSplit(ZERO, 12)));
      Object manager = Hidden.read(SourceReaderBase.class, "splitFetcherManager", kafka);
      ((AtomicReference<Throwable>)
              Hidden.read(SplitFetcherManager.class, "uncaughtFetcherException", manager))
          .set(failure);
      return assertThrows(RuntimeException.class, () -> reader.pollNext(null));
    }
  }
}
