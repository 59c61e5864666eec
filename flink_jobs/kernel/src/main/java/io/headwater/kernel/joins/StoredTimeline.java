package io.headwater.kernel.joins;

/**
 * A key's state as Flink sees it: a structured type with one field of bytes.
 *
 * <p>The heap backend keeps this object and encodes it only for snapshots; RocksDB encodes and
 * decodes it at each access.
 */
public final class StoredTimeline {

  private byte[] encoded;
  private Timeline timeline;

  /** Called by Flink, which then sets {@code encoded}. */
  public StoredTimeline() {}

  StoredTimeline(Timeline timeline) {
    this.timeline = timeline;
  }

  StoredTimeline(byte[] encoded) {
    this.encoded = encoded;
  }

  /** The timeline, decoded at first use. */
  Timeline timeline() {
    if (timeline == null) {
      timeline = Timeline.decode(encoded);
      encoded = null;
    }
    return timeline;
  }

  /** The bytes to store; called by Flink. */
  public byte[] getEncoded() {
    return timeline == null ? encoded : timeline.encode();
  }

  /** Takes stored bytes; called by Flink. */
  public void setEncoded(byte[] encoded) {
    this.encoded = encoded;
    this.timeline = null;
  }
}
