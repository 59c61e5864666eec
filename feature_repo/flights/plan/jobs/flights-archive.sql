SET 'pipeline.name' = 'flights-archive';

CREATE DATABASE sources;

CREATE DATABASE dead;

CREATE CATALOG headwater WITH (
  'type' = 'iceberg',
  'catalog-impl' = 'org.apache.iceberg.jdbc.JdbcCatalog',
  'uri' = '${catalog_uri}',
  'jdbc.user' = '${catalog_user}',
  'jdbc.password' = '${catalog_password}',
  'jdbc.schema-version' = 'V1',
  'warehouse' = '${warehouse}'
);

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

CREATE TABLE sources.`flights_served` (
  `event_time` BIGINT,
  `trace_id` STRING,
  `view` STRING,
  `entity` STRING,
  `value_time` BIGINT,
  `answered` STRING,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.served',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'scan.watermark.alignment.group' = 'flights_served',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms',
  'headwater-json.required' = 'event_time;trace_id;view;entity;answered',
  'headwater-json.timestamps' = 'event_time;value_time',
  'headwater-json.event-time' = 'event_time',
  'headwater-json.ahead' = '3600 s'
);

CREATE TABLE dead.`flights_served` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.served.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
);

BEGIN STATEMENT SET;

INSERT INTO dead.`flights_served`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.served', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`flights_served`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO headwater.`raw`.`departures`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `dep_delay`, `distance`)
SELECT 'flights.departures', `kafka_partition`, `kafka_offset`, `rowtime`,
  1, CURRENT_TIMESTAMP,
  `carrier`,
  `flight`,
  `tailnum`,
  `origin`,
  `dest`,
  TO_TIMESTAMP_LTZ(`scheduled`, 3),
  `dep_delay`,
  `distance`
FROM sources.`departures`
WHERE `dead_reason` IS NULL;

INSERT INTO headwater.`raw`.`arrivals`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `arr_delay`, `air_time`)
SELECT 'flights.arrivals', `kafka_partition`, `kafka_offset`, `rowtime`,
  1, CURRENT_TIMESTAMP,
  `carrier`,
  `flight`,
  `tailnum`,
  `origin`,
  `dest`,
  TO_TIMESTAMP_LTZ(`scheduled`, 3),
  `arr_delay`,
  `air_time`
FROM sources.`arrivals`
WHERE `dead_reason` IS NULL;

INSERT INTO headwater.`raw`.`weather`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `origin`, `temp`, `dewp`, `humid`, `wind_dir`, `wind_speed`, `wind_gust`, `precip`, `pressure`, `visib`)
SELECT 'flights.weather', `kafka_partition`, `kafka_offset`, `rowtime`,
  1, CURRENT_TIMESTAMP,
  `origin`,
  `temp`,
  `dewp`,
  `humid`,
  `wind_dir`,
  `wind_speed`,
  `wind_gust`,
  `precip`,
  `pressure`,
  `visib`
FROM sources.`weather`
WHERE `dead_reason` IS NULL;

INSERT INTO headwater.`raw`.`flights_served`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `trace_id`, `view`, `entity`, `value_time`, `answered`)
SELECT 'flights.served', `kafka_partition`, `kafka_offset`, `rowtime`,
  1, CURRENT_TIMESTAMP,
  `trace_id`,
  `view`,
  `entity`,
  TO_TIMESTAMP_LTZ(`value_time`, 3),
  `answered`
FROM sources.`flights_served`
WHERE `dead_reason` IS NULL;

END;
