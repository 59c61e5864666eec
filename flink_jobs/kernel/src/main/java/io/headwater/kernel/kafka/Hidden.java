package io.headwater.kernel.kafka;

import java.lang.reflect.Field;

/** Fields of Flink's connector that it shows nobody, and that can be had in no other way. */
final class Hidden {

  private Hidden() {}

  /** What the field holds. */
  static Object read(Class<?> declaring, String name, Object from) {
    try {
      return field(declaring, name).get(from);
    } catch (ReflectiveOperationException e) {
      throw another(declaring, name, e);
    }
  }

  /** Puts something else into the field. */
  static void write(Class<?> declaring, String name, Object into, Object value) {
    try {
      field(declaring, name).set(into, value);
    } catch (ReflectiveOperationException e) {
      throw another(declaring, name, e);
    }
  }

  private static Field field(Class<?> declaring, String name) throws NoSuchFieldException {
    Field field = declaring.getDeclaredField(name);
    field.setAccessible(true);
    return field;
  }

  private static IllegalStateException another(
      Class<?> declaring, String name, ReflectiveOperationException cause) {
    return new IllegalStateException(
        "Flink's " + declaring.getSimpleName() + " is of another version: it has no " + name,
        cause);
  }
}
