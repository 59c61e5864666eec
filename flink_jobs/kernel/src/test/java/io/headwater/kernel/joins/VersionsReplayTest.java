package io.headwater.kernel.joins;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.junit.jupiter.api.Test;

class VersionsReplayTest {

  /** As a script's table asks for it. */
  private static boolean passesByWhatIsDeleted(String connector) {
    return ((VersionsSourceFactory)
            FactoryUtil.discoverFactory(
                VersionsReplayTest.class.getClassLoader(),
                DynamicTableSourceFactory.class,
                connector))
        .passesByWhatIsDeleted();
  }

  @Test
  void onlyAReplayFailsWhereKafkaHasDeletedVersions() {
    assertTrue(passesByWhatIsDeleted("kafka-versions"));
    assertFalse(passesByWhatIsDeleted("kafka-replay-versions"));
  }
}
