SET 'pipeline.name' = 'flights-arrivals';

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

CREATE TABLE sources.`arrivals` (
  `event_time` BIGINT,
  `carrier` STRING,
  `flight` BIGINT,
  `tailnum` STRING,
  `origin` STRING,
  `dest` STRING,
  `scheduled` BIGINT,
  `arr_delay` DOUBLE,
  `air_time` DOUBLE,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.arrivals',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'scan.watermark.alignment.group' = 'arrivals',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms',
  'headwater-json.required' = 'event_time;carrier;flight;tailnum;origin;dest;scheduled;arr_delay;air_time',
  'headwater-json.timestamps' = 'event_time;scheduled',
  'headwater-json.event-time' = 'event_time',
  'headwater-json.ahead' = '3600 s'
);

CREATE TABLE dead.`arrivals` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.arrivals.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
);

CREATE VIEW inputs.`route_delays` AS
SELECT `origin`, `dest`, `arr_delay`, `air_time`, `rowtime`,
  shard(`origin`, `dest`) AS `_shard`
FROM sources.`arrivals`
WHERE `dead_reason` IS NULL;

CREATE VIEW rolled.`route_delays` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`route_delays` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["origin","dest"],"features":[{"name":"count_1d","op":"count","column":null,"window_ms":86400000,"tile_ms":3600000},{"name":"count_7d","op":"count","column":null,"window_ms":604800000,"tile_ms":3600000},{"name":"arr_delay_mean_1d","op":"mean","column":"arr_delay","window_ms":86400000,"tile_ms":3600000},{"name":"arr_delay_mean_7d","op":"mean","column":"arr_delay","window_ms":604800000,"tile_ms":3600000},{"name":"arr_delay_max_1d","op":"max","column":"arr_delay","window_ms":86400000,"tile_ms":3600000},{"name":"arr_delay_max_7d","op":"max","column":"arr_delay","window_ms":604800000,"tile_ms":3600000},{"name":"air_time_mean_1d","op":"mean","column":"air_time","window_ms":86400000,"tile_ms":3600000},{"name":"air_time_mean_7d","op":"mean","column":"air_time","window_ms":604800000,"tile_ms":3600000}]}',
  uid => 'route_delays'
);

CREATE VIEW computed.`route_delays` AS
SELECT `result`.`origin` AS `origin`, `result`.`dest` AS `dest`, `result`.`count_1d` AS `count_1d`, `result`.`count_7d` AS `count_7d`, `result`.`arr_delay_mean_1d` AS `arr_delay_mean_1d`, `result`.`arr_delay_mean_7d` AS `arr_delay_mean_7d`, `result`.`arr_delay_max_1d` AS `arr_delay_max_1d`, `result`.`arr_delay_max_7d` AS `arr_delay_max_7d`, `result`.`air_time_mean_1d` AS `air_time_mean_1d`, `result`.`air_time_mean_7d` AS `air_time_mean_7d`, `result`.`event_time` AS `event_time`
FROM rolled.`route_delays`
WHERE `result`.`late_row` IS NULL;

CREATE VIEW inputs.`aircraft_last_arrival` AS
SELECT `tailnum`, `arr_delay`, `air_time`, `origin`, `dest`, `rowtime`,
  shard(`tailnum`) AS `_shard`
FROM sources.`arrivals`
WHERE `dead_reason` IS NULL;

CREATE VIEW rolled.`aircraft_last_arrival` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`aircraft_last_arrival` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["tailnum"],"features":[{"name":"arr_delay","op":"last","column":"arr_delay","window_ms":null,"tile_ms":null},{"name":"air_time","op":"last","column":"air_time","window_ms":null,"tile_ms":null},{"name":"origin","op":"last","column":"origin","window_ms":null,"tile_ms":null},{"name":"dest","op":"last","column":"dest","window_ms":null,"tile_ms":null}]}',
  uid => 'aircraft_last_arrival'
);

CREATE VIEW computed.`aircraft_last_arrival` AS
SELECT `result`.`tailnum` AS `tailnum`, `result`.`arr_delay` AS `arr_delay`, `result`.`air_time` AS `air_time`, `result`.`origin` AS `origin`, `result`.`dest` AS `dest`, `result`.`event_time` AS `event_time`
FROM rolled.`aircraft_last_arrival`
WHERE `result`.`late_row` IS NULL;

CREATE TABLE online.`route_delays` (
  `origin` STRING,
  `dest` STRING,
  `count_1d` BIGINT,
  `count_7d` BIGINT,
  `arr_delay_mean_1d` DOUBLE,
  `arr_delay_mean_7d` DOUBLE,
  `arr_delay_max_1d` DOUBLE,
  `arr_delay_max_7d` DOUBLE,
  `air_time_mean_1d` DOUBLE,
  `air_time_mean_7d` DOUBLE,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'route_delays',
  'entity-keys' = 'origin;dest',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE online.`aircraft_last_arrival` (
  `tailnum` STRING,
  `arr_delay` DOUBLE,
  `air_time` DOUBLE,
  `origin` STRING,
  `dest` STRING,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'aircraft_last_arrival',
  'entity-keys' = 'tailnum',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE late.`arrivals` (
  `view` STRING,
  `entity` MAP<STRING, STRING>,
  `event_time` TIMESTAMP_LTZ(3),
  `row` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.arrivals.late',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.transaction.timeout.ms' = '${outage_ms}',
  'properties.max.request.size' = '3145728',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = '${group}-late'
);

BEGIN STATEMENT SET;

INSERT INTO dead.`arrivals`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.arrivals', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`arrivals`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO online.`route_delays`
SELECT `origin`, `dest`, `count_1d`, `count_7d`, `arr_delay_mean_1d`, `arr_delay_mean_7d`, `arr_delay_max_1d`, `arr_delay_max_7d`, `air_time_mean_1d`, `air_time_mean_7d`, `event_time`
FROM computed.`route_delays`;

INSERT INTO headwater.features.`route_delays`
  (`origin`, `dest`, `event_time`, `available_at`, `count_1d`, `count_7d`, `arr_delay_mean_1d`, `arr_delay_mean_7d`, `arr_delay_max_1d`, `arr_delay_max_7d`, `air_time_mean_1d`, `air_time_mean_7d`)
SELECT `origin`, `dest`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `count_1d`,
  `count_7d`,
  `arr_delay_mean_1d`,
  `arr_delay_mean_7d`,
  `arr_delay_max_1d`,
  `arr_delay_max_7d`,
  `air_time_mean_1d`,
  `air_time_mean_7d`
FROM computed.`route_delays`;

INSERT INTO online.`aircraft_last_arrival`
SELECT `tailnum`, `arr_delay`, `air_time`, `origin`, `dest`, `event_time`
FROM computed.`aircraft_last_arrival`;

INSERT INTO headwater.features.`aircraft_last_arrival`
  (`tailnum`, `event_time`, `available_at`, `arr_delay`, `air_time`, `origin`, `dest`)
SELECT `tailnum`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `arr_delay`,
  `air_time`,
  `origin`,
  `dest`
FROM computed.`aircraft_last_arrival`;

INSERT INTO late.`arrivals`
SELECT 'route_delays', MAP['origin', CAST(`result`.`origin` AS STRING), 'dest', CAST(`result`.`dest` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`route_delays` WHERE `result`.`late_row` IS NOT NULL
UNION ALL
SELECT 'aircraft_last_arrival', MAP['tailnum', CAST(`result`.`tailnum` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`aircraft_last_arrival` WHERE `result`.`late_row` IS NOT NULL;

END;
