package io.headwater.kernel.redis;

import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Decides inside Redis, where writers of the same entity meet, which rows land: those as new as
 * what is stored or newer, by (epoch, event time).
 *
 * <p>One call takes many entities, since most of a call's price is the call. The keys are those of
 * the entities. The arguments are the field with our version, the epoch and a colon, the field with
 * Feast's timestamp and the features' fields; where rows are traced, the field of the newest
 * sampled row's trace; and the entities' values, all in one argument by {@link PackedValues}, since
 * Redis is busier with taking arguments in than with all that the script does. An entity has its
 * version "epoch:event time", true to set, false the same of a time before 1970, or nil to delete,
 * the timestamp and the features' values; where rows are traced, a trace, empty for a row without:
 * what is there stays. Returns how many landed.
 *
 * <p>Without a version the hash is of another writer, such as Feast, and loses. A delete keeps
 * version and timestamp, so that an older row does not bring back the features.
 */
final class Script {

  /** Arguments before the features' fields, and values of an entity before its features'. */
  static final int HEADER = 3;

  /** Of a call of Redis and of one of MessagePack: Lua has some 250 registers. */
  private static final int AT_ONCE = 40;

  private static final String TEXT =
      """
      local call, take, byte, sub = redis.call, cmsgpack.unpack_limit, string.byte, string.sub
      local keys, names, number = KEYS, ARGV, tonumber
      local field, epoch, stamp, values = names[1], names[2], names[3], names[#names]
      local after, at, refused = #epoch + 1, 0, 0
      local colon, minus = byte(':'), byte('-')
      local none%6$s = nil, unpack(names, 4, %7$d)
      for i = 1, #keys do
        local key, lands, how = keys[i], true
        do
          local version, time%1$s
          at, version, how, time%1$s = take(values, %2$d, at)
          local stored = call('HGET', key, field)
          if stored and stored ~= version then
            local mark, sign = byte(stored, after - 1, after)
            if how and #stored == #version and mark == colon and sign ~= minus then
              -- Both of as many digits: the order of texts is that of (epoch, event time).
              lands = stored <= version
            elseif sub(stored, 1, after - 1) == epoch then
              local time = number(sub(stored, after))
              lands = not time or time <= number(sub(version, after))
            else
              local other = string.match(stored, '^(%%d+):%%-?%%d+$')
              lands = not other or number(other) < number(sub(epoch, 1, -2))
            end
          end
          if not lands then
            refused = refused + 1
          elseif how == nil then
            call('HDEL', key, unpack(names, 4, %3$d))
            call('HSET', key, field, version, stamp, time)
          else
            call('HSET', key, field, version, stamp, time%4$s)
          end
        end%5$s
      end
      return #keys - refused
      """;

  /** Features that had no place in the first call. */
  private static final String MORE =
      """

        do
          local more%1$s
          at%1$s = take(values, %2$d, at)
          if lands and how ~= nil then
            call('HSET', key%3$s)
          end
        end""";

  private static final String TRACE =
      """

        do
          local trace
          at, trace = take(values, 1, at)
          if lands and trace ~= '' then
            call('HSET', key, names[%d], trace)
          end
        end""";

  private Script() {}

  /** The script for entities of so many features, and a trace if they are {@code traced}. */
  static String of(int features, boolean traced) {
    int first = Math.min(features, AT_ONCE);
    StringBuilder rest = new StringBuilder();
    for (int from = first; from < features; from += AT_ONCE) {
      int to = Math.min(features, from + AT_ONCE);
      rest.append(
          MORE.formatted(values(from, to), to - from, list(from, to, "names[%2$d], v%1$d")));
    }
    if (traced) {
      rest.append(TRACE.formatted(HEADER + features + 1));
    }
    String last = rest.toString().replace("\n", "\n  ");
    return TEXT.formatted(
        values(0, first),
        HEADER + first,
        HEADER + features,
        list(0, first, "n%1$d, v%1$d"),
        last,
        list(0, first, "n%1$d"),
        HEADER + first);
  }

  private static String values(int from, int to) {
    return list(from, to, "v%1$d");
  }

  private static String list(int from, int to, String text) {
    return IntStream.range(from, to)
        .mapToObj(i -> ", " + text.formatted(i, HEADER + 1 + i))
        .collect(Collectors.joining());
  }
}
