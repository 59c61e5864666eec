/** What a function keeps of a key, and how it lies in Flink's state. */
package io.headwater.kernel.state;
