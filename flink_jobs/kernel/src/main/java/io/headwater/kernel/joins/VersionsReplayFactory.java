package io.headwater.kernel.joins;

/**
 * {@code 'connector' = 'kafka-replay-versions'}: {@code kafka-versions} that are read whole, as
 * {@link io.headwater.kernel.replay.KafkaReplayFactory} reads events. Where Kafka has deleted some,
 * later ones would be joined in their place, or none.
 */
public final class VersionsReplayFactory extends VersionsSourceFactory {

  /** Called by Flink. */
  public VersionsReplayFactory() {
    super("kafka-replay-versions", false);
  }
}
