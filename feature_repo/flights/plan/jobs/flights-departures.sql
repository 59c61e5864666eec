SET 'pipeline.name' = 'flights-departures';

CREATE DATABASE sources;

CREATE DATABASE dead;

CREATE DATABASE inputs;

CREATE DATABASE rolled;

CREATE DATABASE computed;

CREATE DATABASE online;

CREATE DATABASE late;

CREATE CATALOG headwater WITH (
  'type' = 'iceberg',
  'catalog-impl' = 'org.apache.iceberg.jdbc.JdbcCatalog',
  'uri' = '${catalog_uri}',
  'jdbc.user' = '${catalog_user}',
  'jdbc.password' = '${catalog_password}',
  'jdbc.schema-version' = 'V1',
  'warehouse' = '${warehouse}'
);

CREATE TEMPORARY SYSTEM FUNCTION rolling AS 'io.headwater.kernel.rolling.Rolling';

CREATE TEMPORARY SYSTEM FUNCTION shard AS 'io.headwater.kernel.rolling.ShardOf';

CREATE TABLE sources.`departures` (
  `event_time` BIGINT,
  `carrier` STRING,
  `flight` BIGINT,
  `tailnum` STRING,
  `origin` STRING,
  `dest` STRING,
  `scheduled` BIGINT,
  `dep_delay` DOUBLE,
  `distance` DOUBLE,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.departures',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'scan.watermark.alignment.group' = 'departures',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms',
  'headwater-json.required' = 'event_time;carrier;flight;tailnum;origin;dest;scheduled;dep_delay;distance',
  'headwater-json.timestamps' = 'event_time;scheduled',
  'headwater-json.event-time' = 'event_time',
  'headwater-json.ahead' = '3600 s',
  'headwater-json.expect' = '[{"name":"origin_among","column":"origin","in":["EWR","JFK","LGA"],"reject":true},{"name":"dep_delay_within","column":"dep_delay","min":-180,"max":2880},{"name":"distance_within","column":"distance","min":0,"max":6000}]'
);

CREATE TABLE sources.`planes` (
  `before` ROW<`tailnum` STRING>,
  `after` ROW<`tailnum` STRING, `year` BIGINT, `type` STRING, `manufacturer` STRING, `model` STRING, `engines` BIGINT, `seats` BIGINT, `engine` STRING, `age_years` BIGINT, `updated_at` BIGINT>,
  `op` STRING,
  `source` ROW<`ts_ms` BIGINT>,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`source`.`ts_ms`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka-versions',
  'topic' = 'flights.public.planes',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'headwater-json.required' = 'source;source.ts_ms;before.tailnum;after.tailnum;after.updated_at',
  'headwater-json.timestamps' = 'source.ts_ms;after.updated_at',
  'headwater-json.debezium' = 'true',
  'headwater-json.counted' = 'false'
);

CREATE TABLE sources.`weather` (
  `event_time` BIGINT,
  `origin` STRING,
  `temp` DOUBLE,
  `dewp` DOUBLE,
  `humid` DOUBLE,
  `wind_dir` DOUBLE,
  `wind_speed` DOUBLE,
  `wind_gust` DOUBLE,
  `precip` DOUBLE,
  `pressure` DOUBLE,
  `visib` DOUBLE,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka-versions',
  'topic' = 'flights.weather',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'headwater-json.required' = 'event_time;origin',
  'headwater-json.timestamps' = 'event_time',
  'headwater-json.event-time' = 'event_time',
  'headwater-json.ahead' = '3600 s',
  'headwater-json.expect' = '[{"name":"temp_within","column":"temp","min":-40,"max":130},{"name":"dewp_within","column":"dewp","min":-60,"max":100},{"name":"temp_present","column":"temp","present":true}]',
  'headwater-json.counted' = 'false'
);

CREATE DATABASE joined;

CREATE TEMPORARY SYSTEM FUNCTION temporal_join AS 'io.headwater.kernel.joins.TemporalJoin';

CREATE VIEW joined.`departures_in_context_0` AS
SELECT `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `dep_delay`, `distance`, `rowtime`
FROM sources.`departures`
WHERE `dead_reason` IS NULL;

CREATE VIEW joined.`departures_in_context_planes_by_tailnum` AS
SELECT
  COALESCE(`after`.`tailnum`, `before`.`tailnum`) AS `tailnum`,
  CASE WHEN `op` = 'd' THEN `source`.`ts_ms` ELSE `after`.`updated_at` END AS `_since`,
  `op` = 'd' AS `_deleted`,
  `after`.`seats` AS `seats`,
  `after`.`age_years` AS `age_years`,
  `after`.`manufacturer` AS `manufacturer`
FROM sources.`planes`
WHERE `dead_reason` IS NULL AND COALESCE(`after`.`tailnum`, `before`.`tailnum`) IS NOT NULL AND CASE WHEN `op` = 'd' THEN `source`.`ts_ms` ELSE `after`.`updated_at` END IS NOT NULL;

CREATE VIEW joined.`departures_in_context_1` AS
SELECT `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `dep_delay`, `distance`, `seats`, `age_years`, `manufacturer`, `rowtime`
FROM temporal_join(
  events => TABLE joined.`departures_in_context_0` PARTITION BY `tailnum`,
  versions => TABLE joined.`departures_in_context_planes_by_tailnum` PARTITION BY `tailnum`,
  uid => 'departures_in_context_planes_by_tailnum'
);

CREATE VIEW joined.`departures_in_context_weather_by_origin` AS
SELECT
  `origin` AS `origin`,
  `event_time` AS `_since`,
  `event_time` + 10800000 AS `_until`,
  `wind_speed` AS `wind_speed`,
  `visib` AS `visib`,
  `precip` AS `precip`
FROM sources.`weather`
WHERE `dead_reason` IS NULL AND `origin` IS NOT NULL AND `event_time` IS NOT NULL;

CREATE VIEW joined.`departures_in_context` AS
SELECT `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `dep_delay`, `distance`, `seats`, `age_years`, `manufacturer`, `wind_speed`, `visib`, `precip`, `rowtime`
FROM temporal_join(
  events => TABLE joined.`departures_in_context_1` PARTITION BY `origin`,
  versions => TABLE joined.`departures_in_context_weather_by_origin` PARTITION BY `origin`,
  uid => 'departures_in_context_weather_by_origin'
);

CREATE TABLE dead.`departures` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.departures.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
);

CREATE VIEW inputs.`origin_delays` AS
SELECT `origin`, `dep_delay`, `carrier`, `rowtime`,
  (`dep_delay` > 15) IS TRUE AS ```dep_delay`` > 15`,
  shard(`origin`) AS `_shard`
FROM sources.`departures`
WHERE `dead_reason` IS NULL;

CREATE VIEW rolled.`origin_delays` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`origin_delays` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["origin"],"features":[{"name":"count_15m","op":"count","column":null,"window_ms":900000,"tile_ms":60000},{"name":"count_1h","op":"count","column":null,"window_ms":3600000,"tile_ms":60000},{"name":"count_6h","op":"count","column":null,"window_ms":21600000,"tile_ms":300000},{"name":"count_1d","op":"count","column":null,"window_ms":86400000,"tile_ms":3600000},{"name":"count_7d","op":"count","column":null,"window_ms":604800000,"tile_ms":3600000},{"name":"dep_delay_mean_15m","op":"mean","column":"dep_delay","window_ms":900000,"tile_ms":60000},{"name":"dep_delay_mean_1h","op":"mean","column":"dep_delay","window_ms":3600000,"tile_ms":60000},{"name":"dep_delay_mean_6h","op":"mean","column":"dep_delay","window_ms":21600000,"tile_ms":300000},{"name":"dep_delay_mean_1d","op":"mean","column":"dep_delay","window_ms":86400000,"tile_ms":3600000},{"name":"dep_delay_mean_7d","op":"mean","column":"dep_delay","window_ms":604800000,"tile_ms":3600000},{"name":"dep_delay_max_15m","op":"max","column":"dep_delay","window_ms":900000,"tile_ms":60000},{"name":"dep_delay_max_1h","op":"max","column":"dep_delay","window_ms":3600000,"tile_ms":60000},{"name":"dep_delay_max_6h","op":"max","column":"dep_delay","window_ms":21600000,"tile_ms":300000},{"name":"dep_delay_max_1d","op":"max","column":"dep_delay","window_ms":86400000,"tile_ms":3600000},{"name":"dep_delay_max_7d","op":"max","column":"dep_delay","window_ms":604800000,"tile_ms":3600000},{"name":"dep_delay_stddev_15m","op":"stddev","column":"dep_delay","window_ms":900000,"tile_ms":60000},{"name":"dep_delay_stddev_1h","op":"stddev","column":"dep_delay","window_ms":3600000,"tile_ms":60000},{"name":"dep_delay_stddev_6h","op":"stddev","column":"dep_delay","window_ms":21600000,"tile_ms":300000},{"name":"dep_delay_stddev_1d","op":"stddev","column":"dep_delay","window_ms":86400000,"tile_ms":3600000},{"name":"dep_delay_stddev_7d","op":"stddev","column":"dep_delay","window_ms":604800000,"tile_ms":3600000},{"name":"late_share_1h","op":"share","column":"`dep_delay` > 15","window_ms":3600000,"tile_ms":60000},{"name":"late_share_1d","op":"share","column":"`dep_delay` > 15","window_ms":86400000,"tile_ms":3600000},{"name":"dep_delay_p90_1h","op":"percentile","column":"dep_delay","window_ms":3600000,"tile_ms":60000,"q":0.9},{"name":"dep_delay_p90_1d","op":"percentile","column":"dep_delay","window_ms":86400000,"tile_ms":3600000,"q":0.9},{"name":"carrier_distinct_1h","op":"distinct","column":"carrier","window_ms":3600000,"tile_ms":60000},{"name":"carrier_distinct_1d","op":"distinct","column":"carrier","window_ms":86400000,"tile_ms":3600000}]}',
  uid => 'origin_delays'
);

CREATE VIEW computed.`origin_delays` AS
SELECT `result`.`origin` AS `origin`, `result`.`count_15m` AS `count_15m`, `result`.`count_1h` AS `count_1h`, `result`.`count_6h` AS `count_6h`, `result`.`count_1d` AS `count_1d`, `result`.`count_7d` AS `count_7d`, `result`.`dep_delay_mean_15m` AS `dep_delay_mean_15m`, `result`.`dep_delay_mean_1h` AS `dep_delay_mean_1h`, `result`.`dep_delay_mean_6h` AS `dep_delay_mean_6h`, `result`.`dep_delay_mean_1d` AS `dep_delay_mean_1d`, `result`.`dep_delay_mean_7d` AS `dep_delay_mean_7d`, `result`.`dep_delay_max_15m` AS `dep_delay_max_15m`, `result`.`dep_delay_max_1h` AS `dep_delay_max_1h`, `result`.`dep_delay_max_6h` AS `dep_delay_max_6h`, `result`.`dep_delay_max_1d` AS `dep_delay_max_1d`, `result`.`dep_delay_max_7d` AS `dep_delay_max_7d`, `result`.`dep_delay_stddev_15m` AS `dep_delay_stddev_15m`, `result`.`dep_delay_stddev_1h` AS `dep_delay_stddev_1h`, `result`.`dep_delay_stddev_6h` AS `dep_delay_stddev_6h`, `result`.`dep_delay_stddev_1d` AS `dep_delay_stddev_1d`, `result`.`dep_delay_stddev_7d` AS `dep_delay_stddev_7d`, `result`.`late_share_1h` AS `late_share_1h`, `result`.`late_share_1d` AS `late_share_1d`, `result`.`dep_delay_p90_1h` AS `dep_delay_p90_1h`, `result`.`dep_delay_p90_1d` AS `dep_delay_p90_1d`, `result`.`carrier_distinct_1h` AS `carrier_distinct_1h`, `result`.`carrier_distinct_1d` AS `carrier_distinct_1d`, `result`.`event_time` AS `event_time`
FROM rolled.`origin_delays`
WHERE `result`.`late_row` IS NULL;

CREATE VIEW inputs.`carrier_delays` AS
SELECT `carrier`, `dep_delay`, `rowtime`,
  shard(`carrier`) AS `_shard`
FROM sources.`departures`
WHERE `dead_reason` IS NULL;

CREATE VIEW rolled.`carrier_delays` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`carrier_delays` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["carrier"],"features":[{"name":"count_1h","op":"count","column":null,"window_ms":3600000,"tile_ms":60000},{"name":"count_6h","op":"count","column":null,"window_ms":21600000,"tile_ms":300000},{"name":"count_1d","op":"count","column":null,"window_ms":86400000,"tile_ms":3600000},{"name":"count_7d","op":"count","column":null,"window_ms":604800000,"tile_ms":3600000},{"name":"dep_delay_mean_1h","op":"mean","column":"dep_delay","window_ms":3600000,"tile_ms":60000},{"name":"dep_delay_mean_6h","op":"mean","column":"dep_delay","window_ms":21600000,"tile_ms":300000},{"name":"dep_delay_mean_1d","op":"mean","column":"dep_delay","window_ms":86400000,"tile_ms":3600000},{"name":"dep_delay_mean_7d","op":"mean","column":"dep_delay","window_ms":604800000,"tile_ms":3600000}]}',
  uid => 'carrier_delays'
);

CREATE VIEW computed.`carrier_delays` AS
SELECT `result`.`carrier` AS `carrier`, `result`.`count_1h` AS `count_1h`, `result`.`count_6h` AS `count_6h`, `result`.`count_1d` AS `count_1d`, `result`.`count_7d` AS `count_7d`, `result`.`dep_delay_mean_1h` AS `dep_delay_mean_1h`, `result`.`dep_delay_mean_6h` AS `dep_delay_mean_6h`, `result`.`dep_delay_mean_1d` AS `dep_delay_mean_1d`, `result`.`dep_delay_mean_7d` AS `dep_delay_mean_7d`, `result`.`event_time` AS `event_time`
FROM rolled.`carrier_delays`
WHERE `result`.`late_row` IS NULL;

CREATE VIEW inputs.`aircraft_delays` AS
SELECT `tailnum`, `dep_delay`, `distance`, `rowtime`,
  shard(`tailnum`) AS `_shard`
FROM sources.`departures`
WHERE `dead_reason` IS NULL;

CREATE VIEW rolled.`aircraft_delays` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`aircraft_delays` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["tailnum"],"features":[{"name":"count_6h","op":"count","column":null,"window_ms":21600000,"tile_ms":300000},{"name":"count_1d","op":"count","column":null,"window_ms":86400000,"tile_ms":3600000},{"name":"count_7d","op":"count","column":null,"window_ms":604800000,"tile_ms":3600000},{"name":"dep_delay_mean_6h","op":"mean","column":"dep_delay","window_ms":21600000,"tile_ms":300000},{"name":"dep_delay_mean_1d","op":"mean","column":"dep_delay","window_ms":86400000,"tile_ms":3600000},{"name":"dep_delay_mean_7d","op":"mean","column":"dep_delay","window_ms":604800000,"tile_ms":3600000},{"name":"distance_sum_6h","op":"sum","column":"distance","window_ms":21600000,"tile_ms":300000},{"name":"distance_sum_1d","op":"sum","column":"distance","window_ms":86400000,"tile_ms":3600000},{"name":"distance_sum_7d","op":"sum","column":"distance","window_ms":604800000,"tile_ms":3600000}]}',
  uid => 'aircraft_delays'
);

CREATE VIEW computed.`aircraft_delays` AS
SELECT `result`.`tailnum` AS `tailnum`, `result`.`count_6h` AS `count_6h`, `result`.`count_1d` AS `count_1d`, `result`.`count_7d` AS `count_7d`, `result`.`dep_delay_mean_6h` AS `dep_delay_mean_6h`, `result`.`dep_delay_mean_1d` AS `dep_delay_mean_1d`, `result`.`dep_delay_mean_7d` AS `dep_delay_mean_7d`, `result`.`distance_sum_6h` AS `distance_sum_6h`, `result`.`distance_sum_1d` AS `distance_sum_1d`, `result`.`distance_sum_7d` AS `distance_sum_7d`, `result`.`event_time` AS `event_time`
FROM rolled.`aircraft_delays`
WHERE `result`.`late_row` IS NULL;

CREATE VIEW inputs.`carrier_context` AS
SELECT `carrier`, `seats`, `manufacturer`, `wind_speed`, `dep_delay`, `rowtime`,
  (`age_years` > 20) IS TRUE AS ```age_years`` > 20`,
  (`visib` < 3 AND `wind_speed` > 10) IS TRUE AS ```visib`` < 3 AND ``wind_speed`` > 10`,
  (`precip` > 0) IS TRUE AS ```precip`` > 0`,
  shard(`carrier`) AS `_shard`
FROM joined.`departures_in_context`;

CREATE VIEW rolled.`carrier_context` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`carrier_context` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["carrier"],"features":[{"name":"seats_mean_6h","op":"mean","column":"seats","window_ms":21600000,"tile_ms":300000},{"name":"seats_mean_7d","op":"mean","column":"seats","window_ms":604800000,"tile_ms":3600000},{"name":"old_aircraft_share_6h","op":"share","column":"`age_years` > 20","window_ms":21600000,"tile_ms":300000},{"name":"old_aircraft_share_7d","op":"share","column":"`age_years` > 20","window_ms":604800000,"tile_ms":3600000},{"name":"manufacturer_distinct_6h","op":"distinct","column":"manufacturer","window_ms":21600000,"tile_ms":300000},{"name":"manufacturer_distinct_7d","op":"distinct","column":"manufacturer","window_ms":604800000,"tile_ms":3600000},{"name":"wind_speed_mean_6h","op":"mean","column":"wind_speed","window_ms":21600000,"tile_ms":300000},{"name":"wind_speed_mean_7d","op":"mean","column":"wind_speed","window_ms":604800000,"tile_ms":3600000},{"name":"poor_weather_share_6h","op":"share","column":"`visib` < 3 AND `wind_speed` > 10","window_ms":21600000,"tile_ms":300000},{"name":"poor_weather_share_7d","op":"share","column":"`visib` < 3 AND `wind_speed` > 10","window_ms":604800000,"tile_ms":3600000},{"name":"dep_delay_mean_where_rain_6h","op":"mean","column":"dep_delay","window_ms":21600000,"tile_ms":300000,"filter":"`precip` > 0"},{"name":"dep_delay_mean_where_rain_7d","op":"mean","column":"dep_delay","window_ms":604800000,"tile_ms":3600000,"filter":"`precip` > 0"}]}',
  uid => 'carrier_context'
);

CREATE VIEW computed.`carrier_context` AS
SELECT `result`.`carrier` AS `carrier`, `result`.`seats_mean_6h` AS `seats_mean_6h`, `result`.`seats_mean_7d` AS `seats_mean_7d`, `result`.`old_aircraft_share_6h` AS `old_aircraft_share_6h`, `result`.`old_aircraft_share_7d` AS `old_aircraft_share_7d`, `result`.`manufacturer_distinct_6h` AS `manufacturer_distinct_6h`, `result`.`manufacturer_distinct_7d` AS `manufacturer_distinct_7d`, `result`.`wind_speed_mean_6h` AS `wind_speed_mean_6h`, `result`.`wind_speed_mean_7d` AS `wind_speed_mean_7d`, `result`.`poor_weather_share_6h` AS `poor_weather_share_6h`, `result`.`poor_weather_share_7d` AS `poor_weather_share_7d`, `result`.`dep_delay_mean_where_rain_6h` AS `dep_delay_mean_where_rain_6h`, `result`.`dep_delay_mean_where_rain_7d` AS `dep_delay_mean_where_rain_7d`, `result`.`event_time` AS `event_time`
FROM rolled.`carrier_context`
WHERE `result`.`late_row` IS NULL;

CREATE TABLE online.`origin_delays` (
  `origin` STRING,
  `count_15m` BIGINT,
  `count_1h` BIGINT,
  `count_6h` BIGINT,
  `count_1d` BIGINT,
  `count_7d` BIGINT,
  `dep_delay_mean_15m` DOUBLE,
  `dep_delay_mean_1h` DOUBLE,
  `dep_delay_mean_6h` DOUBLE,
  `dep_delay_mean_1d` DOUBLE,
  `dep_delay_mean_7d` DOUBLE,
  `dep_delay_max_15m` DOUBLE,
  `dep_delay_max_1h` DOUBLE,
  `dep_delay_max_6h` DOUBLE,
  `dep_delay_max_1d` DOUBLE,
  `dep_delay_max_7d` DOUBLE,
  `dep_delay_stddev_15m` DOUBLE,
  `dep_delay_stddev_1h` DOUBLE,
  `dep_delay_stddev_6h` DOUBLE,
  `dep_delay_stddev_1d` DOUBLE,
  `dep_delay_stddev_7d` DOUBLE,
  `late_share_1h` DOUBLE,
  `late_share_1d` DOUBLE,
  `dep_delay_p90_1h` DOUBLE,
  `dep_delay_p90_1d` DOUBLE,
  `carrier_distinct_1h` BIGINT,
  `carrier_distinct_1d` BIGINT,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'origin_delays',
  'entity-keys' = 'origin',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE online.`carrier_delays` (
  `carrier` STRING,
  `count_1h` BIGINT,
  `count_6h` BIGINT,
  `count_1d` BIGINT,
  `count_7d` BIGINT,
  `dep_delay_mean_1h` DOUBLE,
  `dep_delay_mean_6h` DOUBLE,
  `dep_delay_mean_1d` DOUBLE,
  `dep_delay_mean_7d` DOUBLE,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'carrier_delays',
  'entity-keys' = 'carrier',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE online.`aircraft_delays` (
  `tailnum` STRING,
  `count_6h` BIGINT,
  `count_1d` BIGINT,
  `count_7d` BIGINT,
  `dep_delay_mean_6h` DOUBLE,
  `dep_delay_mean_1d` DOUBLE,
  `dep_delay_mean_7d` DOUBLE,
  `distance_sum_6h` DOUBLE,
  `distance_sum_1d` DOUBLE,
  `distance_sum_7d` DOUBLE,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'aircraft_delays',
  'entity-keys' = 'tailnum',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE online.`carrier_context` (
  `carrier` STRING,
  `seats_mean_6h` DOUBLE,
  `seats_mean_7d` DOUBLE,
  `old_aircraft_share_6h` DOUBLE,
  `old_aircraft_share_7d` DOUBLE,
  `manufacturer_distinct_6h` BIGINT,
  `manufacturer_distinct_7d` BIGINT,
  `wind_speed_mean_6h` DOUBLE,
  `wind_speed_mean_7d` DOUBLE,
  `poor_weather_share_6h` DOUBLE,
  `poor_weather_share_7d` DOUBLE,
  `dep_delay_mean_where_rain_6h` DOUBLE,
  `dep_delay_mean_where_rain_7d` DOUBLE,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'carrier_context',
  'entity-keys' = 'carrier',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE late.`departures` (
  `view` STRING,
  `entity` MAP<STRING, STRING>,
  `event_time` TIMESTAMP_LTZ(3),
  `row` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.departures.late',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.transaction.timeout.ms' = '${outage_ms}',
  'properties.max.request.size' = '3145728',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = '${group}-late'
);

BEGIN STATEMENT SET;

INSERT INTO dead.`departures`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.departures', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`departures`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO online.`origin_delays`
SELECT `origin`, `count_15m`, `count_1h`, `count_6h`, `count_1d`, `count_7d`, `dep_delay_mean_15m`, `dep_delay_mean_1h`, `dep_delay_mean_6h`, `dep_delay_mean_1d`, `dep_delay_mean_7d`, `dep_delay_max_15m`, `dep_delay_max_1h`, `dep_delay_max_6h`, `dep_delay_max_1d`, `dep_delay_max_7d`, `dep_delay_stddev_15m`, `dep_delay_stddev_1h`, `dep_delay_stddev_6h`, `dep_delay_stddev_1d`, `dep_delay_stddev_7d`, `late_share_1h`, `late_share_1d`, `dep_delay_p90_1h`, `dep_delay_p90_1d`, `carrier_distinct_1h`, `carrier_distinct_1d`, `event_time`
FROM computed.`origin_delays`;

INSERT INTO headwater.features.`origin_delays`
  (`origin`, `event_time`, `available_at`, `count_15m`, `count_1h`, `count_6h`, `count_1d`, `count_7d`, `dep_delay_mean_15m`, `dep_delay_mean_1h`, `dep_delay_mean_6h`, `dep_delay_mean_1d`, `dep_delay_mean_7d`, `dep_delay_max_15m`, `dep_delay_max_1h`, `dep_delay_max_6h`, `dep_delay_max_1d`, `dep_delay_max_7d`, `dep_delay_stddev_15m`, `dep_delay_stddev_1h`, `dep_delay_stddev_6h`, `dep_delay_stddev_1d`, `dep_delay_stddev_7d`, `late_share_1h`, `late_share_1d`, `dep_delay_p90_1h`, `dep_delay_p90_1d`, `carrier_distinct_1h`, `carrier_distinct_1d`)
SELECT `origin`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `count_15m`,
  `count_1h`,
  `count_6h`,
  `count_1d`,
  `count_7d`,
  `dep_delay_mean_15m`,
  `dep_delay_mean_1h`,
  `dep_delay_mean_6h`,
  `dep_delay_mean_1d`,
  `dep_delay_mean_7d`,
  `dep_delay_max_15m`,
  `dep_delay_max_1h`,
  `dep_delay_max_6h`,
  `dep_delay_max_1d`,
  `dep_delay_max_7d`,
  `dep_delay_stddev_15m`,
  `dep_delay_stddev_1h`,
  `dep_delay_stddev_6h`,
  `dep_delay_stddev_1d`,
  `dep_delay_stddev_7d`,
  `late_share_1h`,
  `late_share_1d`,
  `dep_delay_p90_1h`,
  `dep_delay_p90_1d`,
  `carrier_distinct_1h`,
  `carrier_distinct_1d`
FROM computed.`origin_delays`;

INSERT INTO online.`carrier_delays`
SELECT `carrier`, `count_1h`, `count_6h`, `count_1d`, `count_7d`, `dep_delay_mean_1h`, `dep_delay_mean_6h`, `dep_delay_mean_1d`, `dep_delay_mean_7d`, `event_time`
FROM computed.`carrier_delays`;

INSERT INTO headwater.features.`carrier_delays`
  (`carrier`, `event_time`, `available_at`, `count_1h`, `count_6h`, `count_1d`, `count_7d`, `dep_delay_mean_1h`, `dep_delay_mean_6h`, `dep_delay_mean_1d`, `dep_delay_mean_7d`)
SELECT `carrier`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `count_1h`,
  `count_6h`,
  `count_1d`,
  `count_7d`,
  `dep_delay_mean_1h`,
  `dep_delay_mean_6h`,
  `dep_delay_mean_1d`,
  `dep_delay_mean_7d`
FROM computed.`carrier_delays`;

INSERT INTO online.`aircraft_delays`
SELECT `tailnum`, `count_6h`, `count_1d`, `count_7d`, `dep_delay_mean_6h`, `dep_delay_mean_1d`, `dep_delay_mean_7d`, `distance_sum_6h`, `distance_sum_1d`, `distance_sum_7d`, `event_time`
FROM computed.`aircraft_delays`;

INSERT INTO headwater.features.`aircraft_delays`
  (`tailnum`, `event_time`, `available_at`, `count_6h`, `count_1d`, `count_7d`, `dep_delay_mean_6h`, `dep_delay_mean_1d`, `dep_delay_mean_7d`, `distance_sum_6h`, `distance_sum_1d`, `distance_sum_7d`)
SELECT `tailnum`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `count_6h`,
  `count_1d`,
  `count_7d`,
  `dep_delay_mean_6h`,
  `dep_delay_mean_1d`,
  `dep_delay_mean_7d`,
  `distance_sum_6h`,
  `distance_sum_1d`,
  `distance_sum_7d`
FROM computed.`aircraft_delays`;

INSERT INTO online.`carrier_context`
SELECT `carrier`, `seats_mean_6h`, `seats_mean_7d`, `old_aircraft_share_6h`, `old_aircraft_share_7d`, `manufacturer_distinct_6h`, `manufacturer_distinct_7d`, `wind_speed_mean_6h`, `wind_speed_mean_7d`, `poor_weather_share_6h`, `poor_weather_share_7d`, `dep_delay_mean_where_rain_6h`, `dep_delay_mean_where_rain_7d`, `event_time`
FROM computed.`carrier_context`;

INSERT INTO headwater.features.`carrier_context`
  (`carrier`, `event_time`, `available_at`, `seats_mean_6h`, `seats_mean_7d`, `old_aircraft_share_6h`, `old_aircraft_share_7d`, `manufacturer_distinct_6h`, `manufacturer_distinct_7d`, `wind_speed_mean_6h`, `wind_speed_mean_7d`, `poor_weather_share_6h`, `poor_weather_share_7d`, `dep_delay_mean_where_rain_6h`, `dep_delay_mean_where_rain_7d`)
SELECT `carrier`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `seats_mean_6h`,
  `seats_mean_7d`,
  `old_aircraft_share_6h`,
  `old_aircraft_share_7d`,
  `manufacturer_distinct_6h`,
  `manufacturer_distinct_7d`,
  `wind_speed_mean_6h`,
  `wind_speed_mean_7d`,
  `poor_weather_share_6h`,
  `poor_weather_share_7d`,
  `dep_delay_mean_where_rain_6h`,
  `dep_delay_mean_where_rain_7d`
FROM computed.`carrier_context`;

INSERT INTO late.`departures`
SELECT 'origin_delays', MAP['origin', CAST(`result`.`origin` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`origin_delays` WHERE `result`.`late_row` IS NOT NULL
UNION ALL
SELECT 'carrier_delays', MAP['carrier', CAST(`result`.`carrier` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`carrier_delays` WHERE `result`.`late_row` IS NOT NULL
UNION ALL
SELECT 'aircraft_delays', MAP['tailnum', CAST(`result`.`tailnum` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`aircraft_delays` WHERE `result`.`late_row` IS NOT NULL
UNION ALL
SELECT 'carrier_context', MAP['carrier', CAST(`result`.`carrier` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`carrier_context` WHERE `result`.`late_row` IS NOT NULL;

END;
