package io.headwater.kernel.rolling;

/**
 * A shard as Flink sees it, or what belongs to it: a structured type with one field of bytes.
 *
 * <p>The heap backend keeps this object, so that the state is changed in place and encoded only for
 * snapshots. RocksDB encodes and decodes it at each access. (A RAW type would say the same, but
 * Flink 2.1 generates a hash function for each state entry that does not compile for RAW.)
 */
public final class StoredState {

  private byte[] encoded;
  private Shard shard;

  /** Called by Flink, which then sets {@code encoded}. */
  public StoredState() {}

  StoredState(Shard shard) {
    this.shard = shard;
  }

  StoredState(byte[] encoded) {
    this.encoded = encoded;
  }

  /** The shard, decoded at first use. */
  Shard shard() {
    if (shard == null) {
      shard = Shard.read(encoded);
      encoded = null;
    }
    return shard;
  }

  /** The bytes to store; called by Flink. */
  public byte[] getEncoded() {
    return shard == null ? encoded : shard.write();
  }

  /** Takes stored bytes; called by Flink. */
  public void setEncoded(byte[] encoded) {
    this.encoded = encoded;
    this.shard = null;
  }
}
