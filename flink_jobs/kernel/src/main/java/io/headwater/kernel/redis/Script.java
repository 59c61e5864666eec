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
 * version "epoch:event time", 'S' to set or 'D' to delete, the timestamp and the features' values;
 * where rows are traced, a trace, empty for a row without: what is there stays. Returns how many
 * landed.
 *
 * <p>Without a version the hash is of another writer, such as Feast, and loses. A delete keeps
 * version and timestamp, so that an older row does not bring back the features.
 */
final class Script {

  /** Arguments before the features' fields, and values of an entity before its features'. */
  static final int HEADER = 3;

  /** Lua passes some 250 arguments to a function at the most. */
  private static final int PAIRS_A_CALL = 60;

  private static final String TEXT =
      """
      local call, byte, sub, number = redis.call, string.byte, string.sub, tonumber
      local keys, names = KEYS, ARGV
      local field, epoch, stamp, values = names[1], names[2], names[3], cmsgpack.unpack(names[%1$d])
      local after, at, landed = #epoch + 1, 1, 0
      local colon, minus = byte(':'), byte('-')
      for i = 1, #keys do
        local key, version, lands = keys[i], values[at], true
        local stored = call('HGET', key, field)
        if stored and stored ~= version then
          local mark, sign = byte(stored, after - 1, after)
          if #stored == #version and mark == colon and sign ~= minus
              and byte(version, after) ~= minus then
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
        if lands then
          landed = landed + 1
          if values[at + 1] == 'D' then
            call('HDEL', key, unpack(names, 4, %2$d))
            call('HSET', key, field, version, stamp, values[at + 2])
          else
            call('HSET', key, field, version, stamp, values[at + 2])
            %3$s
          end%5$s
        end
        at = at + %4$d
      end
      return landed
      """;

  private static final String TRACE =
      """

          if values[at + %2$d] ~= '' then
            call('HSET', key, names[%1$d], values[at + %2$d])
          end""";

  private Script() {}

  /** The script for entities of so many features, and a trace if they are {@code traced}. */
  static String of(int features, boolean traced) {
    String sets =
        IntStream.iterate(0, i -> i < features, i -> i + PAIRS_A_CALL)
            .mapToObj(
                first ->
                    IntStream.range(first, Math.min(features, first + PAIRS_A_CALL))
                        .mapToObj(i -> "names[%d], values[at + %d]".formatted(4 + i, 3 + i))
                        .collect(Collectors.joining(", ", "call('HSET', key, ", ")")))
            .collect(Collectors.joining("\n      "));
    // As few calls as there can be: the first one sets features too.
    int width = HEADER + features + (traced ? 1 : 0);
    String trace = traced ? TRACE.formatted(width, width - 1) : "";
    String text = TEXT.formatted(width + 1, HEADER + features, sets, width, trace);
    String alone =
        "call('HSET', key, field, version, stamp, values[at + 2])\n      call('HSET', key, ";
    return text.replace(alone, "call('HSET', key, field, version, stamp, values[at + 2], ");
  }
}
