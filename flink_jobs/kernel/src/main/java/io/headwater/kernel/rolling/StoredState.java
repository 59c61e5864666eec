package io.headwater.kernel.rolling;

/**
 * A key's state as Flink sees it: a structured type with one field of bytes.
 *
 * <p>The heap backend keeps this object, so that the state is changed in place and encoded only for
 * snapshots. RocksDB encodes and decodes it at each access. (A RAW type would say the same, but
 * Flink 2.1 generates a hash function for each state entry that does not compile for RAW.)
 */
public final class StoredState {

  private byte[] encoded;
  private KeyState state;

  /** Called by Flink, which then sets {@code encoded}. */
  public StoredState() {}

  StoredState(KeyState state) {
    this.state = state;
  }

  /** The state, decoded at first use. */
  KeyState state() {
    if (state == null) {
      state = KeyStateCodec.decode(encoded);
      encoded = null;
    }
    return state;
  }

  /** The bytes to store; called by Flink. */
  public byte[] getEncoded() {
    return state == null ? encoded : KeyStateCodec.encode(state);
  }

  /** Takes stored bytes; called by Flink. */
  public void setEncoded(byte[] encoded) {
    this.encoded = encoded;
    this.state = null;
  }
}
