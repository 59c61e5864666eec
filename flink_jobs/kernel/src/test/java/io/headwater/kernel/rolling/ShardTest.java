package io.headwater.kernel.rolling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.BooleanType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.util.FlinkRuntimeException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Where keys lie, and that they keep what they are given. */
class ShardTest {

  private static final RowType INPUT =
      RowType.of(
          new LogicalType[] {
            new VarCharType(),
            new BigIntType(),
            new DoubleType(),
            new BooleanType(),
            new LocalZonedTimestampType(3)
          },
          new String[] {"s", "i", "d", "b", "rowtime"});

  private static Spec spec(String keys) {
    return Spec.parse(
        "{\"time\": \"rowtime\", "
            + (keys.isEmpty() ? "" : "\"keys\": [" + keys + "], ")
            + "\"features\": [{\"name\": \"n\", \"op\": \"count\","
            + " \"window_ms\": 60, \"tile_ms\": 10}]}",
        INPUT);
  }

  /** A state that says {@code handled}, as long as {@code words} has it. */
  private static KeyState state(long handled, int words, long timer) {
    KeyState state = new KeyState(7, new long[words], new Object[0], new KeyState.Tiles[0]);
    state.handled = handled;
    state.timer = timer;
    return state;
  }

  /** Beside a map: added, found, changed in length, removed, written and read. */
  @ParameterizedTest
  @ValueSource(ints = {1, 5, 9, 40, 700})
  void keysKeepTheirStates(int most) throws Exception {
    Random random = new Random(most);
    Map<String, long[]> expected = new TreeMap<>();
    Shard shard = new Shard(Shards.ON_HEAP);
    DataInputDeserializer in = new DataInputDeserializer();
    DataOutputSerializer out = new DataOutputSerializer(8);
    for (int step = 0; step < 30_000; step++) {
      String name = "k".repeat(random.nextInt(3)) + random.nextInt(most);
      byte[] key = (name + "#").getBytes();
      int slot = shard.find(key, key.length - 1);
      assertEquals(expected.containsKey(name), slot >= 0, name);
      boolean removes = random.nextInt(100) < (step / 5_000 % 2 == 0 ? 20 : 60);
      if (slot >= 0 && removes) {
        shard.remove(slot);
        expected.remove(name);
      } else {
        long[] values = {random.nextLong(), random.nextInt(30), random.nextInt(1000)};
        KeyState state = state(values[0], (int) values[1], values[2]);
        if (slot < 0) {
          slot = shard.add(key, key.length - 1, state);
        }
        if (random.nextBoolean()) {
          shard.keep(slot, state);
        } else {
          shard.write(slot, state, out);
        }
        expected.put(name, values);
      }
      if (random.nextInt(2_000) == 0) {
        shard.timer = random.nextLong();
        shard.advanced = random.nextLong();
        Shard copy = Shard.read(shard.write());
        assertEquals(shard.timer, copy.timer);
        assertEquals(shard.advanced, copy.advanced);
        assertEquals(shard.of, copy.of);
        shard = copy;
      }
      if (step % 500 == 0) {
        Map<String, long[]> found = new TreeMap<>();
        for (slot = 0; slot < shard.size(); slot++) {
          KeyState state = shard.load(slot, in);
          long[] values = {state.handled, state.life.length, state.timer};
          assertEquals(state.timer, shard.due(slot));
          byte[] read = new byte[shard.key(slot, in).available()];
          in.readFully(read);
          found.put(new String(read), values);
        }
        assertEquals(text(expected), text(found));
      }
    }
    assertTrue(shard.size() > 0);
  }

  private static List<String> text(Map<String, long[]> states) {
    List<String> lines = new ArrayList<>();
    states.forEach((name, v) -> lines.add(name + " " + v[0] + " " + v[1] + " " + v[2]));
    return lines;
  }

  @Test
  void aKeyOfManyColumnsComesOutAsItWentIn() {
    Spec spec = spec("\"s\", \"i\", \"d\", \"b\"");
    Keys keys = new Keys(spec, Shards.ON_HEAP, 0);
    Shard shard = keys.newShard();
    List<List<Object>> given = new ArrayList<>();
    for (int n = 0; n < 16; n++) {
      StringData s = (n & 1) == 0 ? null : StringData.fromString("é" + n);
      Long i = (n & 2) == 0 ? null : -5_000_000_000L * n;
      Double d = (n & 4) == 0 ? null : -0.5 * n;
      Boolean b = (n & 8) == 0 ? null : n % 3 == 0;
      GenericRowData row = GenericRowData.of(s, i, d, b, TimestampData.fromEpochMillis(n + 1));
      assertTrue(keys.add(shard, row, n + 1, timer -> {}));
      List<Object> key = new ArrayList<>();
      java.util.Collections.addAll(key, s, i, d, b);
      given.add(key);
      if (n == 15) {
        GenericRowData late = (GenericRowData) keys.late(row);
        assertEquals(
            key, List.of(late.getField(3), late.getField(4), late.getField(5), late.getField(6)));
      }
    }
    assertEquals(16, shard.size());
    List<List<Object>> told = new ArrayList<>();
    keys.advance(
        Shard.read(shard.write()),
        20,
        row -> {
          List<Object> key = new ArrayList<>();
          key.add(row.isNullAt(3) ? null : row.getString(3));
          key.add(row.isNullAt(4) ? null : row.getLong(4));
          key.add(row.isNullAt(5) ? null : row.getDouble(5));
          key.add(row.isNullAt(6) ? null : row.getBoolean(6));
          told.add(key);
        },
        timer -> {});
    assertEquals(given, told);
  }

  @Test
  void stateOfAnotherNumberOfShardsIsRefused() {
    Spec spec = spec("\"s\"");
    Shard shard = Shard.read(new Keys(spec, Shards.ON_HEAP, 0).newShard().write());
    new Keys(spec, Shards.ON_HEAP, 0).check(shard);
    String told =
        assertThrows(
                FlinkRuntimeException.class, () -> new Keys(spec, Shards.OF_EACH, 0).check(shard))
            .getMessage();
    assertTrue(told.contains("in 4096 shards, and they are in a shard for each now"), told);
  }

  /** State of versions 1 to 4 is that of a partition's only key. */
  @Test
  void stateOfOneKeyIsAShardOfOne() {
    Spec spec = spec("");
    Keys keys = new Keys(spec, Shards.OF_ONE_KEY, 0);
    KeyState state = new Engine(spec).newState();
    state.timer = 25;
    Shard shard = Shard.read(KeyStateCodec.encode(state));
    keys.check(shard);
    GenericRowData row = GenericRowData.of(null, 1L, 1.0, true, TimestampData.fromEpochMillis(25));
    assertTrue(keys.add(shard, row, 25, timer -> {}));
    assertEquals(1, shard.size());
    List<Long> counts = new ArrayList<>();
    keys.advance(shard, 200, out -> counts.add(out.getLong(0)), timer -> {});
    assertEquals(List.of(1L, 0L), counts);
    assertEquals(0, shard.size());
  }

  private static GenericRowData row(String key, long time) {
    return GenericRowData.of(
        StringData.fromString(key), null, null, null, TimestampData.fromEpochMillis(time));
  }

  /** After a restart the watermark begins anew, and all of the key may be forgotten. */
  @Test
  void whatIsLateStaysLateThoughItsKeyIsForgotten() {
    Keys keys = new Keys(spec("\"s\""), Shards.ON_HEAP, 0);
    Shard shard = keys.newShard();
    assertTrue(keys.add(shard, row("a", 5), 5, timer -> {}));
    keys.advance(shard, 1000, out -> {}, timer -> {});
    assertEquals(0, shard.size());
    Shard restored = Shard.read(shard.write());
    assertFalse(keys.add(restored, row("a", 7), 7, timer -> {}));
    assertFalse(keys.add(restored, row("b", 1000), 1000, timer -> {}));
    assertTrue(keys.add(restored, row("b", 1001), 1001, timer -> {}));
  }

  @Test
  void stateOfAShardThatDidNotSayHowFarItWasIsRead() {
    Keys keys = new Keys(spec("\"s\""), Shards.ON_HEAP, 0);
    Shard shard = keys.newShard();
    assertTrue(keys.add(shard, row("a", 5), 5, timer -> {}));
    byte[] now = shard.write();
    byte[] then = new byte[now.length - 8];
    System.arraycopy(now, 0, then, 0, 13);
    System.arraycopy(now, 21, then, 13, now.length - 21);
    then[0] = 5;
    Shard read = Shard.read(then);
    assertEquals(5, read.timer);
    assertTrue(keys.add(read, row("a", 6), 6, timer -> {}));
    List<Long> counts = new ArrayList<>();
    keys.advance(read, 6, out -> counts.add(out.getLong(0)), timer -> {});
    assertEquals(List.of(1L, 2L), counts);
  }

  @Test
  void stateOfALaterVersionIsRefused() {
    byte[] written = new Shard(Shards.ON_HEAP).write();
    written[0]++;
    String told = assertThrows(FlinkRuntimeException.class, () -> Shard.read(written)).getMessage();
    assertTrue(told.contains("state of version 8, this kernel reads 1 to 5 and 7"), told);
  }

  @Test
  void onlyTheHeapHasManyKeysAShard() {
    Configuration config = new Configuration();
    assertEquals(Shards.ON_HEAP, Shards.of(config));
    String factory = "org.apache.flink.runtime.state.hashmap.HashMapStateBackendFactory";
    for (String backend : List.of("hashmap", "HashMap", factory)) {
      config.setString("state.backend.type", backend);
      assertEquals(Shards.ON_HEAP, Shards.of(config));
    }
    // Which would write a whole shard for each row.
    config.setString("state.changelog.enabled", "true");
    assertEquals(Shards.OF_EACH, Shards.of(config));
    config.setString("state.changelog.enabled", "false");
    for (String backend : List.of("rocksdb", "forst", "org.example.Factory")) {
      config.setString("state.backend.type", backend);
      assertEquals(Shards.OF_EACH, Shards.of(config));
    }
  }
}
