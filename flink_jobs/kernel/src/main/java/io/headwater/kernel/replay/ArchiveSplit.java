package io.headwater.kernel.replay;

import java.io.IOException;
import java.io.Serializable;
import java.nio.ByteBuffer;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** The records of one Kafka partition with offsets from {@code next} to before {@code end}. */
record ArchiveSplit(int partition, long next, long end) implements SourceSplit, Serializable {

  @Override
  public String splitId() {
    return String.valueOf(partition);
  }

  /** Writes three numbers. */
  static final class Serializer implements SimpleVersionedSerializer<ArchiveSplit> {

    @Override
    public int getVersion() {
      return 1;
    }

    @Override
    public byte[] serialize(ArchiveSplit split) {
      return ByteBuffer.allocate(20)
          .putInt(split.partition)
          .putLong(split.next)
          .putLong(split.end)
          .array();
    }

    @Override
    public ArchiveSplit deserialize(int version, byte[] bytes) throws IOException {
      if (version != 1 || bytes.length != 20) {
        throw new IOException("not a split of the archive, version %d".formatted(version));
      }
      ByteBuffer buffer = ByteBuffer.wrap(bytes);
      return new ArchiveSplit(buffer.getInt(), buffer.getLong(), buffer.getLong());
    }
  }
}
