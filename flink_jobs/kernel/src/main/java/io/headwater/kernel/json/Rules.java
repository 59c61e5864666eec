package io.headwater.kernel.json;

import java.io.Serializable;
import java.util.List;
import java.util.Set;

/**
 * What a record must be, beyond its columns' types.
 *
 * @param required dotted paths of fields that must be there and not null
 * @param timestamps dotted paths of fields that are milliseconds since 1970
 * @param eventTime the field with the event time, or null if there is none
 * @param aheadMillis how far the event time may be ahead of this machine's clock
 * @param debezium whether a record is Debezium's envelope of a change
 * @param expectations what is counted where it does not hold, or rejected
 * @param counted whether bad records and what was expected of them are counted here
 */
record Rules(
    Set<String> required,
    Set<String> timestamps,
    String eventTime,
    long aheadMillis,
    boolean debezium,
    List<Expectation> expectations,
    boolean counted)
    implements Serializable {}
