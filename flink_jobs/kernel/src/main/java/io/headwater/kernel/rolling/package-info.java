/**
 * Rolling features over event time: the {@code rolling} process table function and its engine.
 *
 * <p>{@link io.headwater.kernel.rolling.Rolling} is the face to Flink, {@link
 * io.headwater.kernel.rolling.Spec} the parsed call, {@link io.headwater.kernel.rolling.Engine} the
 * semantics, {@link io.headwater.kernel.rolling.KeyState} what is kept per key, {@link
 * io.headwater.kernel.rolling.Shard} where it is kept.
 */
package io.headwater.kernel.rolling;
