package io.headwater.kernel.rolling;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.PriorityQueue;
import java.util.Random;
import org.junit.jupiter.api.Test;

class KeyStateTest {

  /** Rows come out of order, as many as watermarks take, more or fewer; those of one time tie. */
  @Test
  void rowsComeOutInOrderInWhateverOrderTheyCame() {
    for (int seed = 0; seed < 200; seed++) {
      Random random = new Random(seed);
      KeyState state = new KeyState(0, new long[0], new Object[0], new KeyState.Tiles[0]);
      PriorityQueue<BufferedRow> wanted = new PriorityQueue<>();
      int jitter = 1 + random.nextInt(200);
      int atOnce = 1 + random.nextInt(60);
      long now = 0;
      for (int step = 0; step < 200; step++) {
        for (int i = random.nextInt(atOnce); i > 0; i--) {
          long time = now++ - random.nextInt(jitter);
          BufferedRow row = new BufferedRow(time, 0, new long[] {random.nextInt(3)}, null, null);
          state.append(row);
          wanted.add(row);
        }
        state.sort();
        for (int i = random.nextInt(atOnce); i > 0 && !wanted.isEmpty(); i--) {
          BufferedRow row = state.poll();
          BufferedRow next = wanted.poll();
          assertEquals(0, next.compareTo(row), "seed " + seed);
        }
        assertEquals(wanted.size(), state.endRow - state.firstRow);
      }
    }
  }
}
