/** What the functions of the kernel tell Flink's planner, all in the same way. */
package io.headwater.kernel.planner;
