/**
 * Point-in-time joins: an event with the version of a row that was true at the event's time. {@link
 * io.headwater.kernel.joins.TemporalJoin} is the function, {@link
 * io.headwater.kernel.joins.Timeline} its meaning and its state.
 */
package io.headwater.kernel.joins;
