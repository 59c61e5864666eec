package io.headwater.kernel.json;

/** Why a record does not fit. It costs no stack trace: bad records may come by the million. */
final class BadRecord extends Exception {

  /** The kinds of reasons: few, since each is a metric of its own. */
  enum Kind {
    /** No bytes at all. */
    EMPTY,
    /** More than {@link CheckedJson#LARGEST} bytes. */
    SIZE,
    /** Not one JSON object in UTF-8, or a field that is there twice. */
    MALFORMED,
    /** A required field is absent or null. */
    MISSING,
    /** A field of another type. */
    TYPE,
    /** A number or time that its type cannot hold. */
    RANGE,
    /** An event time too far ahead, which would make all that follows late. */
    FUTURE,
    /** A declared expectation that rejects. */
    EXPECTATION;

    final String label = name().toLowerCase(java.util.Locale.ROOT);
  }

  private static final int LONGEST = 500;

  final Kind kind;

  /**
   * @param detail what was expected and where; never a value, which may be personal
   */
  BadRecord(Kind kind, String detail) {
    super(kind.label + ": " + detail, null, false, false);
    this.kind = kind;
  }

  /** The reason as the dead letter carries it. */
  String reason() {
    String text = getMessage();
    return text.length() <= LONGEST ? text : text.substring(0, LONGEST) + "…";
  }
}
