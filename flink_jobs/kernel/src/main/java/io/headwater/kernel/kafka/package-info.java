/**
 * What the kernel's own Kafka tables are made of: Flink's, with another end or other watermarks.
 */
package io.headwater.kernel.kafka;
