package io.headwater.kernel.replay;

import io.headwater.kernel.kafka.KafkaTableFactory;

/**
 * {@code 'connector' = 'kafka-replay'}: a Kafka table that is read whole. It comes to its end, if
 * it has one, and fails where Kafka has deleted what it is to read next: the archive may have it.
 */
public final class KafkaReplayFactory extends KafkaTableFactory {

  /** Called by Flink. */
  public KafkaReplayFactory() {
    super("kafka-replay");
  }

  @Override
  protected boolean passesByWhatIsDeleted() {
    return false;
  }
}
