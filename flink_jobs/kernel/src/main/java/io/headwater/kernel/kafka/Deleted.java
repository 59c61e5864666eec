package io.headwater.kernel.kafka;

import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.runtime.throwable.ThrowableAnnotation;
import org.apache.flink.runtime.throwable.ThrowableType;
import org.apache.flink.util.ExceptionUtils;

/**
 * The record that comes next is not in Kafka any more. It will not come back, so that a job that
 * fails of this is not started again.
 */
@ThrowableAnnotation(ThrowableType.NonRecoverableError)
final class Deleted extends RuntimeException {

  private static final long serialVersionUID = 1L;

  private Deleted(Map<TopicPartition, Long> missing) {
    super(
        "Kafka has deleted what is to be read next: "
            + missing.entrySet().stream()
                .map(one -> "offset " + one.getValue() + " of " + one.getKey())
                .collect(Collectors.joining(", "))
            + ". Another run reads it from the archive, if it is there");
  }

  /**
   * Has the readers of a Kafka source fail where this is so.
   *
   * <p>Flink's connector has them go on from where the log begins by then, whatever the table's own
   * {@code auto.offset.reset} is: its builder puts another in its place.
   */
  static void failReadersOf(Source<?, ?, ?> kafka) {
    Properties client = (Properties) Hidden.read(KafkaSource.class, "props", kafka);
    client.setProperty(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "none");
  }

  /** What a reader has failed of, if it is this. */
  static Optional<Deleted> within(Throwable failure) {
    return ExceptionUtils.findThrowable(failure, OffsetOutOfRangeException.class)
        .map(found -> new Deleted(found.offsetOutOfRangePartitions()));
  }
}
