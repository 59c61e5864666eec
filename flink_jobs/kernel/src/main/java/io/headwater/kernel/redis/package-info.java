/**
 * The table sink {@code feast-redis}: features in Feast's own Redis format, newer wins.
 *
 * <p>{@link io.headwater.kernel.redis.RedisSinkFactory} has the options, {@link
 * io.headwater.kernel.redis.FeastCodec} the bytes, {@link io.headwater.kernel.redis.RowEncoder} a
 * row's way to them, {@link io.headwater.kernel.redis.RedisWriter} batches, {@link
 * io.headwater.kernel.redis.Script} what lands.
 */
package io.headwater.kernel.redis;
