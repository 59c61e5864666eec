/** {@code timed}: what lets windows of Flink SQL be laid over the rows of a view. */
package io.headwater.kernel.quality;
