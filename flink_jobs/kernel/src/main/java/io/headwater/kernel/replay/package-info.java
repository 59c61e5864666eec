/** What a replay adds to a job: a source that reads the archive, and a gate that sets its pace. */
package io.headwater.kernel.replay;
