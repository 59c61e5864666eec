package io.headwater.kernel.redis;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import org.apache.flink.core.memory.DataOutputSerializer;

/**
 * Feast's Redis format by hand (entity key serialization version 3), the same bytes as {@code
 * connectors/redis_codec.py}; both are held to {@code tests/vectors/redis.json}.
 */
final class FeastCodec {

  static final byte[] NULL = {};

  /** What a protobuf Timestamp can hold, the years 1 to 9999. */
  static final long MIN_EVENT_TIME = -62_135_596_800_000L;

  static final long MAX_EVENT_TIME = 253_402_300_799_999L;

  private static final int STRING_KEY = 2; // feast.types.ValueType
  private static final int INT64_KEY = 4;
  private static final byte[] TRUE = {0x38, 1};
  private static final byte[] FALSE = {0x38, 0};

  private FeastCodec() {}

  static byte[] string(byte[] utf8) {
    byte[] result = new byte[1 + varintSize(utf8.length) + utf8.length];
    result[0] = 0x12;
    System.arraycopy(utf8, 0, result, putVarint(result, 1, utf8.length), utf8.length);
    return result;
  }

  static byte[] int64(long value) {
    byte[] result = new byte[1 + varintSize(value)];
    result[0] = 0x20;
    putVarint(result, 1, value);
    return result;
  }

  static byte[] float64(double value) {
    return littleEndian(9).put((byte) 0x29).putDouble(value).array();
  }

  static byte[] bool(boolean value) {
    return value ? TRUE : FALSE;
  }

  /** Milliseconds since 1970 as a protobuf Timestamp, whose zero parts are left out. */
  static byte[] eventTime(long milliseconds) {
    long seconds = Math.floorDiv(milliseconds, 1000L);
    int nanos = (int) Math.floorMod(milliseconds, 1000L) * 1_000_000;
    int secondsSize = seconds == 0 ? 0 : 1 + varintSize(seconds);
    byte[] result = new byte[secondsSize + (nanos == 0 ? 0 : 1 + varintSize(nanos))];
    if (seconds != 0) {
      result[0] = 0x08;
      putVarint(result, 1, seconds);
    }
    if (nanos != 0) {
      result[secondsSize] = 0x10;
      putVarint(result, secondsSize + 1, nanos);
    }
    return result;
  }

  /** The hash field of a feature. */
  static byte[] featureField(String view, String feature) {
    int hash = murmur3((view + ":" + feature).getBytes(StandardCharsets.UTF_8));
    return littleEndian(4).putInt(hash).array();
  }

  /** The part of an entity key that all rows have, {@code names} in the order of their bytes. */
  static void writeKeyPrefix(DataOutputSerializer target, byte[]... names) throws IOException {
    writeInt(target, names.length);
    for (byte[] name : names) {
      writeInt(target, STRING_KEY);
      writeInt(target, name.length);
      target.write(name);
    }
  }

  static void writeStringKey(DataOutputSerializer target, byte[] utf8) throws IOException {
    writeInt(target, STRING_KEY);
    writeInt(target, utf8.length);
    target.write(utf8);
  }

  static void writeInt64Key(DataOutputSerializer target, long value) throws IOException {
    writeInt(target, INT64_KEY);
    writeInt(target, Long.BYTES);
    target.writeLong(Long.reverseBytes(value));
  }

  private static void writeInt(DataOutputSerializer target, int value) throws IOException {
    target.writeInt(Integer.reverseBytes(value));
  }

  /** MurmurHash3 x86 32 with seed 0. */
  static int murmur3(byte[] data) {
    ByteBuffer buffer = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
    int hash = 0;
    while (buffer.remaining() >= 4) {
      hash ^= scramble(buffer.getInt());
      hash = Integer.rotateLeft(hash, 13) * 5 + 0xe6546b64;
    }
    int tail = 0;
    for (int shift = 0; buffer.hasRemaining(); shift += 8) {
      tail |= (buffer.get() & 0xff) << shift;
    }
    hash ^= scramble(tail) ^ data.length;
    hash = (hash ^ hash >>> 16) * 0x85ebca6b;
    hash = (hash ^ hash >>> 13) * 0xc2b2ae35;
    return hash ^ hash >>> 16;
  }

  private static int scramble(int block) {
    return Integer.rotateLeft(block * 0xcc9e2d51, 15) * 0x1b873593;
  }

  private static int varintSize(long value) {
    return (Long.SIZE - Long.numberOfLeadingZeros(value | 1) + 6) / 7;
  }

  private static int putVarint(byte[] target, int position, long value) {
    while ((value & ~0x7fL) != 0) {
      target[position++] = (byte) (value & 0x7f | 0x80);
      value >>>= 7;
    }
    target[position++] = (byte) value;
    return position;
  }

  private static ByteBuffer littleEndian(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }
}
