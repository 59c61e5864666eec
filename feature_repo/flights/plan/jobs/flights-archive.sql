SET 'pipeline.name' = 'flights-archive';

CREATE DATABASE sources;

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
  `_partition` INT METADATA FROM 'partition' VIRTUAL,
  `_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.departures',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'scan.watermark.alignment.group' = 'departures',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms'
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
  `_partition` INT METADATA FROM 'partition' VIRTUAL,
  `_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.arrivals',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'scan.watermark.alignment.group' = 'arrivals',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms'
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
  `_partition` INT METADATA FROM 'partition' VIRTUAL,
  `_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.weather',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'scan.watermark.alignment.group' = 'weather',
  'scan.watermark.alignment.max-drift' = '3600 s',
  'scan.watermark.alignment.update-interval' = '200 ms'
);

BEGIN STATEMENT SET;

INSERT INTO headwater.`raw`.`departures`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `dep_delay`, `distance`)
SELECT 'flights.departures', `_partition`, `_offset`, `rowtime`,
  1, CURRENT_TIMESTAMP,
  `carrier`,
  `flight`,
  `tailnum`,
  `origin`,
  `dest`,
  TO_TIMESTAMP_LTZ(`scheduled`, 3),
  `dep_delay`,
  `distance`
FROM sources.`departures`;

INSERT INTO headwater.`raw`.`arrivals`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `carrier`, `flight`, `tailnum`, `origin`, `dest`, `scheduled`, `arr_delay`, `air_time`)
SELECT 'flights.arrivals', `_partition`, `_offset`, `rowtime`,
  1, CURRENT_TIMESTAMP,
  `carrier`,
  `flight`,
  `tailnum`,
  `origin`,
  `dest`,
  TO_TIMESTAMP_LTZ(`scheduled`, 3),
  `arr_delay`,
  `air_time`
FROM sources.`arrivals`;

INSERT INTO headwater.`raw`.`weather`
  (`_topic`, `_partition`, `_offset`, `event_time`, `_schema_version`, `_archived_at`, `origin`, `temp`, `dewp`, `humid`, `wind_dir`, `wind_speed`, `wind_gust`, `precip`, `pressure`, `visib`)
SELECT 'flights.weather', `_partition`, `_offset`, `rowtime`,
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
FROM sources.`weather`;

END;
