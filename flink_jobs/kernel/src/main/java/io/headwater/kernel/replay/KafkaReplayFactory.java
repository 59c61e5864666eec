package io.headwater.kernel.replay;

import io.headwater.kernel.kafka.KafkaTableFactory;

/** {@code 'connector' = 'kafka-replay'}: a Kafka table with an end, which it always comes to. */
public final class KafkaReplayFactory extends KafkaTableFactory {

  /** Called by Flink. */
  public KafkaReplayFactory() {
    super("kafka-replay");
  }
}
