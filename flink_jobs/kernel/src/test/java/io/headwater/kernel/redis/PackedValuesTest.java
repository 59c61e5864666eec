package io.headwater.kernel.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import redis.clients.jedis.Jedis;

class PackedValuesTest {

  /** Either side of each length at which MessagePack writes it otherwise. */
  private static final List<Integer> LENGTHS =
      List.of(0, 1, 31, 32, 255, 256, 65_535, 65_536, 100_000);

  @Test
  void redisUnpacksEveryByteOfEveryLength() throws Exception {
    PackedValues packed = new PackedValues(LENGTHS.size());
    Random random = new Random(7);
    List<byte[]> values = LENGTHS.stream().map(byte[]::new).toList();
    values.forEach(random::nextBytes);
    for (byte[] value : values) {
      packed.add(value);
    }
    packed.add(true).add(false).add((Boolean) null);
    try (RedisServer server = new RedisServer();
        Jedis jedis = server.client()) {
      List<?> unpacked =
          (List<?>)
              jedis.eval(
                  "local v = {cmsgpack.unpack(ARGV[1])}\n for i = 10, 12 do v[i] = tostring(v[i]) end return v"
                      .getBytes(ISO_8859_1),
                  0,
                  packed.packed());
      assertEquals(LENGTHS.size() + 3, unpacked.size());
      for (int i = 0; i < 3; i++) {
        assertEquals(
            List.of("true", "false", "nil").get(i),
            new String((byte[]) unpacked.get(LENGTHS.size() + i), ISO_8859_1));
      }
      for (int i = 0; i < values.size(); i++) {
        assertArrayEquals(values.get(i), (byte[]) unpacked.get(i), "of " + LENGTHS.get(i));
      }
    }
  }
}
