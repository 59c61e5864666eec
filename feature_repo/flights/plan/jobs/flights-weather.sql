SET 'pipeline.name' = 'flights-weather';

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
  'connector' = 'kafka',
  'topic' = 'flights.weather',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'scan.watermark.alignment.group' = 'weather',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms',
  'headwater-json.required' = 'event_time;origin',
  'headwater-json.timestamps' = 'event_time',
  'headwater-json.event-time' = 'event_time',
  'headwater-json.ahead' = '3600 s',
  'headwater-json.expect' = '[{"name":"temp_within","column":"temp","min":-40,"max":130},{"name":"dewp_within","column":"dewp","min":-60,"max":100},{"name":"temp_present","column":"temp","present":true}]'
);

CREATE TABLE dead.`weather` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.weather.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
);

CREATE VIEW inputs.`origin_weather` AS
SELECT `origin`, `temp`, `humid`, `wind_dir`, `wind_speed`, `precip`, `pressure`, `visib`, `rowtime`,
  shard(`origin`) AS `_shard`
FROM sources.`weather`
WHERE `dead_reason` IS NULL;

CREATE VIEW rolled.`origin_weather` AS
SELECT *
FROM rolling(
  input => TABLE inputs.`origin_weather` PARTITION BY `_shard`,
  spec => '{"time":"rowtime","keys":["origin"],"features":[{"name":"temp","op":"last","column":"temp","window_ms":null,"tile_ms":null},{"name":"humid","op":"last","column":"humid","window_ms":null,"tile_ms":null},{"name":"wind_dir","op":"last","column":"wind_dir","window_ms":null,"tile_ms":null},{"name":"wind_speed","op":"last","column":"wind_speed","window_ms":null,"tile_ms":null},{"name":"precip","op":"last","column":"precip","window_ms":null,"tile_ms":null},{"name":"pressure","op":"last","column":"pressure","window_ms":null,"tile_ms":null},{"name":"visib","op":"last","column":"visib","window_ms":null,"tile_ms":null}]}',
  uid => 'origin_weather'
);

CREATE VIEW computed.`origin_weather` AS
SELECT `result`.`origin` AS `origin`, `result`.`temp` AS `temp`, `result`.`humid` AS `humid`, `result`.`wind_dir` AS `wind_dir`, `result`.`wind_speed` AS `wind_speed`, `result`.`precip` AS `precip`, `result`.`pressure` AS `pressure`, `result`.`visib` AS `visib`, `result`.`event_time` AS `event_time`
FROM rolled.`origin_weather`
WHERE `result`.`late_row` IS NULL;

CREATE TABLE online.`origin_weather` (
  `origin` STRING,
  `temp` DOUBLE,
  `humid` DOUBLE,
  `wind_dir` DOUBLE,
  `wind_speed` DOUBLE,
  `precip` DOUBLE,
  `pressure` DOUBLE,
  `visib` DOUBLE,
  `event_time` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'origin_weather',
  'entity-keys' = 'origin',
  'event-time' = 'event_time',
  'epoch' = '${epoch}'
);

CREATE TABLE late.`weather` (
  `view` STRING,
  `entity` MAP<STRING, STRING>,
  `event_time` TIMESTAMP_LTZ(3),
  `row` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.weather.late',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.transaction.timeout.ms' = '${outage_ms}',
  'properties.max.request.size' = '3145728',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = '${group}-late'
);

BEGIN STATEMENT SET;

INSERT INTO dead.`weather`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.weather', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`weather`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO online.`origin_weather`
SELECT `origin`, `temp`, `humid`, `wind_dir`, `wind_speed`, `precip`, `pressure`, `visib`, `event_time`
FROM computed.`origin_weather`;

INSERT INTO headwater.features.`origin_weather`
  (`origin`, `event_time`, `available_at`, `temp`, `humid`, `wind_dir`, `wind_speed`, `precip`, `pressure`, `visib`)
SELECT `origin`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `temp`,
  `humid`,
  `wind_dir`,
  `wind_speed`,
  `precip`,
  `pressure`,
  `visib`
FROM computed.`origin_weather`;

INSERT INTO late.`weather`
SELECT 'origin_weather', MAP['origin', CAST(`result`.`origin` AS STRING)], `result`.`event_time` AS `event_time`, `result`.`late_row` AS `late_row`
FROM rolled.`origin_weather` WHERE `result`.`late_row` IS NOT NULL;

END;
