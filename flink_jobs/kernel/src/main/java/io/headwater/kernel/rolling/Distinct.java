package io.headwater.kernel.rolling;

import java.io.IOException;
import java.util.Arrays;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.core.memory.MemorySegment;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * How many different values: HyperLogLog of 4096 registers, standard error 1.6 %.
 *
 * <p>Up to 1024 values it keeps them as coupons of 32 bits (26 bits of the hash and the number of
 * zeros that follow), whose number is the answer, wrong by one with a chance of less than 1 in 100.
 * The coupons hold all that the registers need, so when they are exchanged makes no difference. The
 * estimate is Ertl's (arXiv 1702.01284): no table of corrections, and no logarithm, whose last
 * digit may differ between machines.
 */
final class Distinct implements Sketch {

  static final byte TAG = 1;
  static final int MOST_COUPONS = 1024;
  private static final int REGISTER_BITS = 12;
  private static final int REGISTERS = 1 << REGISTER_BITS;
  private static final int ADDRESS_BITS = 26;
  private static final int ZERO_BITS = 32 - ADDRESS_BITS;
  private static final int MOST_ZEROS = 64 - ADDRESS_BITS;

  /** The longest run of zeros, plus one, that follows a register's address. */
  private static final int MOST_RANK = 64 - REGISTER_BITS + 1;

  private static final double ALPHA = 0.7213475204444817; // 1 / (2 ln 2)

  private final boolean isDouble;

  /** Ordered and different, the first {@code size}; null once there are registers. */
  private int[] coupons = new int[4];

  private int size;
  private byte[] registers;

  /** How often what it holds has changed since it was made or read. */
  private long changes;

  Distinct(boolean isDouble) {
    this.isDouble = isDouble;
  }

  @Override
  public void add(long word, StringData string) {
    // -0.0 is 0.0.
    boolean negativeZero = isDouble && word == Long.MIN_VALUE;
    long hash = string != null ? hash((BinaryStringData) string) : mix(negativeZero ? 0 : word);
    int zeros = Math.min(MOST_ZEROS, Long.numberOfLeadingZeros(hash << ADDRESS_BITS));
    put((int) (hash >>> (64 - ADDRESS_BITS)) << ZERO_BITS | zeros);
  }

  private void put(int coupon) {
    if (registers != null) {
      raise(coupon);
      return;
    }
    int at = Arrays.binarySearch(coupons, 0, size, coupon);
    if (at >= 0) {
      return;
    }
    if (size == MOST_COUPONS) {
      toRegisters();
      raise(coupon);
      return;
    }
    if (size == coupons.length) {
      coupons = Arrays.copyOf(coupons, size * 2);
    }
    at = -at - 1;
    System.arraycopy(coupons, at, coupons, at + 1, size - at);
    coupons[at] = coupon;
    size++;
    changes++;
  }

  private void toRegisters() {
    registers = new byte[REGISTERS];
    changes++;
    for (int i = 0; i < size; i++) {
      raise(coupons[i]);
    }
    coupons = null;
    size = 0;
  }

  private void raise(int coupon) {
    int register = coupon >>> (32 - REGISTER_BITS);
    int rest = coupon << REGISTER_BITS & -(1 << ZERO_BITS + REGISTER_BITS);
    int zeros =
        rest != 0
            ? Integer.numberOfLeadingZeros(rest)
            : ADDRESS_BITS - REGISTER_BITS + (coupon & (1 << ZERO_BITS) - 1);
    if (registers[register] <= zeros) {
      registers[register] = (byte) (zeros + 1);
      changes++;
    }
  }

  @Override
  public void merge(Sketch later) {
    Distinct other = (Distinct) later;
    if (registers == null && other.registers == null) {
      mergeCoupons(other);
      return;
    }
    if (other.registers == null) {
      for (int i = 0; i < other.size; i++) {
        put(other.coupons[i]);
      }
      return;
    }
    if (registers == null) {
      toRegisters();
    }
    for (int i = 0; i < REGISTERS; i++) {
      registers[i] = (byte) Math.max(registers[i], other.registers[i]);
    }
  }

  private void mergeCoupons(Distinct other) {
    int missing = 0;
    for (int i = 0, j = 0; j < other.size; j++) {
      while (i < size && coupons[i] < other.coupons[j]) {
        i++;
      }
      if (i == size || coupons[i] != other.coupons[j]) {
        missing++;
      }
    }
    if (size + missing > MOST_COUPONS) {
      toRegisters();
      merge(other);
      return;
    }
    if (size + missing > coupons.length) {
      coupons = Arrays.copyOf(coupons, Math.max(size * 2, size + missing));
    }
    // From the end, so that nothing is overwritten before it has moved.
    for (int i = size - 1, j = other.size - 1, to = size + missing - 1; j >= 0; to--) {
      if (i >= 0 && coupons[i] >= other.coupons[j]) {
        j -= coupons[i] == other.coupons[j] ? 1 : 0;
        coupons[to] = coupons[i--];
      } else {
        coupons[to] = other.coupons[j--];
      }
    }
    size += missing;
    changes += missing;
  }

  long changes() {
    return changes;
  }

  long estimate() {
    if (registers == null) {
      return size;
    }
    int[] ranks = new int[MOST_RANK + 1];
    for (byte rank : registers) {
      ranks[rank]++;
    }
    double z = REGISTERS * tau(1 - (double) ranks[MOST_RANK] / REGISTERS);
    for (int k = MOST_RANK - 1; k >= 1; k--) {
      z = 0.5 * (z + ranks[k]);
    }
    z += REGISTERS * sigma((double) ranks[0] / REGISTERS);
    return Math.round(ALPHA * REGISTERS * REGISTERS / z);
  }

  private static double sigma(double x) {
    double y = 1;
    double z = x;
    for (double before = -1; z != before && x < 1; y += y) {
      x *= x;
      before = z;
      z += x * y;
    }
    return x < 1 ? z : Double.POSITIVE_INFINITY;
  }

  private static double tau(double x) {
    if (x == 0 || x == 1) {
      return 0;
    }
    double y = 1;
    double z = 1 - x;
    for (double before = -1; z != before; ) {
      x = Math.sqrt(x);
      before = z;
      y *= 0.5;
      z -= (1 - x) * (1 - x) * y;
    }
    return z / 3;
  }

  /** The finalizer of SplitMix64. */
  private static long mix(long x) {
    x += 0x9e3779b97f4a7c15L;
    x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
    x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
    return x ^ (x >>> 31);
  }

  /** Of a {@link BufferedRow}'s string, which is a copy or was read, so that it is one segment. */
  private static long hash(BinaryStringData string) {
    string.ensureMaterialized();
    int size = string.getSizeInBytes();
    MemorySegment segment = string.getSegments()[0];
    int offset = string.getOffset();
    long hash = size;
    long word = 0;
    for (int i = 0; i < size; i++) {
      word = word << 8 | segment.get(offset + i) & 0xff;
      if ((i & 7) == 7) {
        hash = mix(hash ^ word);
        word = 0;
      }
    }
    return mix(hash ^ word);
  }

  @Override
  public Distinct copy() {
    Distinct copy = new Distinct(isDouble);
    copy.coupons = coupons == null ? null : coupons.clone();
    copy.size = size;
    copy.registers = registers == null ? null : registers.clone();
    return copy;
  }

  @Override
  public byte tag() {
    return TAG;
  }

  @Override
  public void write(DataOutputView out) throws IOException {
    out.writeBoolean(isDouble);
    out.writeShort(registers == null ? size : -1);
    if (registers != null) {
      out.write(registers);
      return;
    }
    for (int i = 0; i < size; i++) {
      out.writeInt(coupons[i]);
    }
  }

  static Distinct read(DataInputView in) throws IOException {
    Distinct sketch = new Distinct(in.readBoolean());
    int size = in.readShort();
    if (size < 0) {
      sketch.coupons = null;
      sketch.registers = new byte[REGISTERS];
      in.readFully(sketch.registers);
      return sketch;
    }
    sketch.coupons = new int[Math.max(4, size)];
    sketch.size = size;
    for (int i = 0; i < size; i++) {
      sketch.coupons[i] = in.readInt();
    }
    return sketch;
  }
}
