package io.headwater.kernel.json;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.ValidationException;

/** What a field's value should be; broken, it is counted, or the record is rejected. */
final class Expectation implements Serializable {

  private final String name;
  private final String path;
  private final double min;
  private final double max;
  private final Set<String> among;
  private final boolean present;
  private final boolean reject;
  private transient Counter broken;

  private Expectation(JsonNode node) {
    name = node.required("name").asText();
    path = node.required("column").asText();
    min = node.hasNonNull("min") ? node.get("min").asDouble() : Double.NEGATIVE_INFINITY;
    max = node.hasNonNull("max") ? node.get("max").asDouble() : Double.POSITIVE_INFINITY;
    among = node.hasNonNull("in") ? new HashSet<>() : null;
    if (among != null) {
      node.get("in").forEach(text -> among.add(text.asText()));
    }
    present = node.path("present").asBoolean();
    reject = node.path("reject").asBoolean();
  }

  /**
   * Reads {@code [{"name": …, "column": …, "min": …, "max": …, "in": […], "present": true,
   * "reject": true}, …]}, of which name and column must be there. A column of an inner object is a
   * dotted path.
   */
  static List<Expectation> parse(String json) {
    try {
      List<Expectation> found = new ArrayList<>();
      for (JsonNode node : new ObjectMapper().readTree(json)) {
        found.add(new Expectation(node));
      }
      return found;
    } catch (JsonProcessingException | IllegalArgumentException e) {
      throw new ValidationException("'expect' is no list of expectations: " + json, e);
    }
  }

  String path() {
    return path;
  }

  /** Counts in {@code brokenExpectations}, in a group {@code expectation} for each name. */
  void open(MetricGroup metrics) {
    broken = metrics.addGroup("expectation", name).counter("brokenExpectations");
  }

  void check(double number, String in, String field) throws BadRecord {
    if (number < min || number > max) {
      broken(in, field);
    }
  }

  void check(String text, String in, String field) throws BadRecord {
    if (among != null && !among.contains(text)) {
      broken(in, field);
    }
  }

  void checkNull(String in, String field) throws BadRecord {
    if (present) {
      broken(in, field);
    }
  }

  private void broken(String in, String field) throws BadRecord {
    broken.inc();
    if (reject) {
      throw new BadRecord(BadRecord.Kind.EXPECTATION, name + " - at `" + in + "." + field + "`");
    }
  }
}
