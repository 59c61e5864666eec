package io.headwater.kernel.kafka;

import java.io.Serializable;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import javax.annotation.Nullable;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.Admin;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.KafkaFuture;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * How much a reader has still to let out of what its partitions held when it began.
 *
 * <p>The reader knows how far it is and Kafka how far it has to go, and the one who wants to know
 * is the generator of watermarks. Reader and generator each hold this object, and both are fields
 * of their operator: they come to the task manager in one piece, and there it is one object still,
 * one for each task. All is called by the task's thread.
 *
 * <p>A log that ends with the marks of transactions is never seen to be read to its end, since
 * there is no record at it; nor is one that Kafka does not tell the end of.
 */
public final class LogEnd implements Serializable {

  private static final long serialVersionUID = 1L;
  private static final Logger LOG = LoggerFactory.getLogger(LogEnd.class);

  private final Properties client;

  /** What nobody knows, yet or at all. */
  public static final long UNTOLD = -1;

  @Nullable private transient SourceReader<?, ?> reader;
  @Nullable private transient Runnable assignment;
  @Nullable private transient Bounds bounds;
  private transient boolean allAssigned;
  private transient boolean reached;
  private transient boolean untold;

  /** Of no checkpoint: Kafka's reader forgets what it keeps by it with the next one. */
  private transient long number;

  /** The beginnings and ends of partitions, as far as Kafka has told them. */
  private record Bounds(
      KafkaFuture<Map<TopicPartition, ListOffsetsResultInfo>> begins,
      KafkaFuture<Map<TopicPartition, ListOffsetsResultInfo>> ends) {

    boolean areTold() {
      return begins.isDone() && ends.isDone();
    }
  }

  /** With the options {@code properties.*} of a Kafka table. */
  LogEnd(Map<String, String> options) {
    String prefix = "properties.";
    client = new Properties();
    options.forEach(
        (name, value) -> {
          if (name.startsWith(prefix)) {
            client.setProperty(name.substring(prefix.length()), value);
          }
        });
  }

  /** By {@code assignment} it asks whether all partitions are assigned. */
  void follow(SourceReader<?, ?> reader, Runnable assignment) {
    this.reader = reader;
    this.assignment = assignment;
  }

  /** If the reader has no partition by now, it gets none of those there are. */
  void allAssigned() {
    allAssigned = true;
  }

  /**
   * So many offsets, 0 from when all is read on, or {@link #UNTOLD}; asks Kafka, without waiting
   * for it, when it is called first.
   */
  public long left() {
    if (reached) {
      return 0;
    }
    if (untold || reader == null) {
      return UNTOLD;
    }
    List<KafkaPartitionSplit> splits = splits(reader, number - 1);
    if (splits.isEmpty()) {
      number--; // there were no partitions by that number, and it takes none any more
      if (allAssigned) {
        return 0;
      }
      assignment.run();
      return UNTOLD;
    }
    long left = left(splits);
    reached = left == 0;
    return left;
  }

  /** The partitions of a reader, each with the offset it is at. */
  @SuppressWarnings("unchecked") // of a Kafka source there are no others
  private static List<KafkaPartitionSplit> splits(SourceReader<?, ?> reader, long number) {
    return (List<KafkaPartitionSplit>) reader.snapshotState(number);
  }

  private long left(List<KafkaPartitionSplit> splits) {
    if (bounds == null) {
      bounds = ask(splits);
    }
    if (!bounds.areTold()) {
      return UNTOLD;
    }
    try {
      Map<TopicPartition, Long> begins = offsets(bounds.begins.get());
      Map<TopicPartition, Long> ends = offsets(bounds.ends.get());
      if (splits.stream().anyMatch(split -> !ends.containsKey(split.getTopicPartition()))) {
        bounds = null; // one has come since
        return UNTOLD;
      }
      return left(splits, begins, ends);
    } catch (ExecutionException e) {
      LOG.warn("Kafka does not tell where its log ends: what is joined is waited for", e);
      untold = true;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    return UNTOLD;
  }

  static long left(
      List<KafkaPartitionSplit> splits,
      Map<TopicPartition, Long> begins,
      Map<TopicPartition, Long> ends) {
    long left = 0;
    for (KafkaPartitionSplit split : splits) {
      TopicPartition partition = split.getTopicPartition();
      long at = split.getStartingOffset();
      if (at != KafkaPartitionSplit.COMMITTED_OFFSET) {
        at = Math.max(at, begins.get(partition));
      }
      left += Math.max(0, ends.get(partition) - at);
    }
    return left;
  }

  private Bounds ask(List<KafkaPartitionSplit> splits) {
    Admin admin = Admin.create(client);
    Bounds asked =
        new Bounds(
            ask(admin, splits, OffsetSpec.earliest()), ask(admin, splits, OffsetSpec.latest()));
    // It gives up by itself, so that it is closed also where the task has gone meanwhile.
    KafkaFuture.allOf(asked.begins, asked.ends)
        .whenComplete((told, error) -> admin.close(Duration.ZERO));
    return asked;
  }

  private static KafkaFuture<Map<TopicPartition, ListOffsetsResultInfo>> ask(
      Admin admin, List<KafkaPartitionSplit> splits, OffsetSpec what) {
    Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
    splits.forEach(split -> asked.put(split.getTopicPartition(), what));
    return admin.listOffsets(asked).all();
  }

  private static Map<TopicPartition, Long> offsets(
      Map<TopicPartition, ListOffsetsResultInfo> told) {
    Map<TopicPartition, Long> offsets = new HashMap<>();
    told.forEach((partition, info) -> offsets.put(partition, info.offset()));
    return offsets;
  }
}
