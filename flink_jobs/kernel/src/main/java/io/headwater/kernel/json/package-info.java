/**
 * The format {@code headwater-json}: JSON events checked as they are read, none of them lost.
 *
 * <p>A record that does not fit becomes a row without values but with a reason and its untouched
 * bytes, for the dead letters; the job goes on. {@link io.headwater.kernel.json.CheckedJsonFactory}
 * has the options, {@link io.headwater.kernel.json.RowReader} reads one object, {@link
 * io.headwater.kernel.json.CheckedJson} decides about a whole record.
 */
package io.headwater.kernel.json;
