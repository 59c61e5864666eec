package io.headwater.kernel.rolling;

import java.io.IOException;
import java.util.Arrays;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.table.data.StringData;

/**
 * Percentiles: how many values fell into each bucket, where a bucket is the sign, the exponent and
 * the first seven bits of the fraction of a double.
 *
 * <p>A percentile is the edge next to zero of the bucket of the value at its rank: less than 1/128
 * closer to zero than that value, and for whole numbers up to 256 the value itself. Counts add up,
 * so tiles merge exactly, which sketches that compact by chance (KLL) or by nearness (t-digest) do
 * not. A bucket takes 16 bytes of heap and about 3 written.
 */
final class Quantiles implements Sketch {

  static final byte TAG = 2;
  private static final int DROPPED_BITS = 52 - 7;

  private final boolean isDouble;

  /** Ordered, the first {@code size}; negative for values below zero. */
  private int[] buckets;

  private long[] counts;
  private int size;
  private long total;

  Quantiles(boolean isDouble) {
    this(isDouble, 4);
  }

  private Quantiles(boolean isDouble, int capacity) {
    this.isDouble = isDouble;
    this.buckets = new int[capacity];
    this.counts = new long[capacity];
  }

  @Override
  public void add(long word, StringData string) {
    total++;
    long bits = isDouble ? word : Double.doubleToLongBits(word);
    int magnitude = (int) ((bits & Long.MAX_VALUE) >>> DROPPED_BITS);
    int bucket = bits < 0 ? -magnitude : magnitude;
    int at = Arrays.binarySearch(buckets, 0, size, bucket);
    if (at >= 0) {
      counts[at]++;
      return;
    }
    at = -at - 1;
    if (size == buckets.length) {
      buckets = Arrays.copyOf(buckets, size * 2);
      counts = Arrays.copyOf(counts, size * 2);
    }
    System.arraycopy(buckets, at, buckets, at + 1, size - at);
    System.arraycopy(counts, at, counts, at + 1, size - at);
    buckets[at] = bucket;
    counts[at] = 1;
    size++;
  }

  @Override
  public void merge(Sketch later) {
    Quantiles other = (Quantiles) later;
    Quantiles sum = new Quantiles(isDouble, Math.max(4, size + other.size));
    int i = 0;
    int j = 0;
    while (i < size || j < other.size) {
      int order =
          i == size ? 1 : j == other.size ? -1 : Integer.compare(buckets[i], other.buckets[j]);
      sum.buckets[sum.size] = order <= 0 ? buckets[i] : other.buckets[j];
      sum.counts[sum.size++] =
          (order <= 0 ? counts[i++] : 0) + (order >= 0 ? other.counts[j++] : 0);
    }
    buckets = sum.buckets;
    counts = sum.counts;
    size = sum.size;
    total += other.total;
  }

  /** Takes out what was merged in before. */
  void subtract(Quantiles other) {
    int kept = 0;
    for (int i = 0, j = 0; i < size; i++) {
      long left = counts[i];
      if (j < other.size && other.buckets[j] == buckets[i]) {
        left -= other.counts[j++];
      }
      if (left > 0) {
        buckets[kept] = buckets[i];
        counts[kept++] = left;
      }
    }
    size = kept;
    total -= other.total;
  }

  /** Whether it holds no value. */
  boolean isEmpty() {
    return total == 0;
  }

  /**
   * The value at rank {@code ceil(millionths / 1e6 * n)} of {@code n}, the first at the least; the
   * sketch is not empty.
   */
  double at(long millionths) {
    long left = Math.max(1, (total * millionths + 999_999) / 1_000_000);
    int i = -1;
    while (left > 0) {
      left -= counts[++i];
    }
    double edge = Double.longBitsToDouble((long) Math.abs(buckets[i]) << DROPPED_BITS);
    return buckets[i] < 0 ? -edge : edge;
  }

  @Override
  public Quantiles copy() {
    Quantiles copy = new Quantiles(isDouble, 0);
    copy.buckets = buckets.clone();
    copy.counts = counts.clone();
    copy.size = size;
    copy.total = total;
    return copy;
  }

  @Override
  public byte tag() {
    return TAG;
  }

  @Override
  public void write(DataOutputView out) throws IOException {
    out.writeBoolean(isDouble);
    out.writeInt(size);
    int before = 0;
    for (int i = 0; i < size; i++) {
      // Zigzag, for the first may be negative.
      int step = buckets[i] - before;
      writeVariable(step << 1 ^ step >> 31, out);
      writeVariable(counts[i], out);
      before = buckets[i];
    }
  }

  static Quantiles read(DataInputView in) throws IOException {
    boolean isDouble = in.readBoolean();
    int size = in.readInt();
    Quantiles sketch = new Quantiles(isDouble, Math.max(4, size));
    sketch.size = size;
    int before = 0;
    for (int i = 0; i < size; i++) {
      int step = (int) readVariable(in);
      before += step >>> 1 ^ -(step & 1);
      sketch.buckets[i] = before;
      sketch.counts[i] = readVariable(in);
      sketch.total += sketch.counts[i];
    }
    return sketch;
  }

  private static void writeVariable(long value, DataOutputView out) throws IOException {
    for (; (value & ~0x7fL) != 0; value >>>= 7) {
      out.writeByte((int) (value & 0x7f | 0x80));
    }
    out.writeByte((int) value);
  }

  private static long readVariable(DataInputView in) throws IOException {
    long value = 0;
    for (int shift = 0; ; shift += 7) {
      long next = in.readByte();
      value |= (next & 0x7f) << shift;
      if (next >= 0) {
        return value;
      }
    }
  }
}
