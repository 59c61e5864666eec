SET 'pipeline.name' = 'flights-tables';

CREATE DATABASE sources;

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

CREATE TABLE sources.`planes` (
  `before` ROW<`tailnum` STRING, `year` BIGINT, `type` STRING, `manufacturer` STRING, `model` STRING, `engines` BIGINT, `seats` BIGINT, `engine` STRING, `age_years` BIGINT, `updated_at` BIGINT>,
  `after` ROW<`tailnum` STRING, `year` BIGINT, `type` STRING, `manufacturer` STRING, `model` STRING, `engines` BIGINT, `seats` BIGINT, `engine` STRING, `age_years` BIGINT, `updated_at` BIGINT>,
  `op` STRING,
  `ts_ms` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.planes',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE sources.`airlines` (
  `before` ROW<`carrier` STRING, `name` STRING, `updated_at` BIGINT>,
  `after` ROW<`carrier` STRING, `name` STRING, `updated_at` BIGINT>,
  `op` STRING,
  `ts_ms` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airlines',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE sources.`airports` (
  `before` ROW<`faa` STRING, `name` STRING, `lat` DOUBLE, `lon` DOUBLE, `alt` BIGINT, `tzone` STRING, `updated_at` BIGINT>,
  `after` ROW<`faa` STRING, `name` STRING, `lat` DOUBLE, `lon` DOUBLE, `alt` BIGINT, `tzone` STRING, `updated_at` BIGINT>,
  `op` STRING,
  `ts_ms` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airports',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE VIEW computed.`aircraft_facts` AS
SELECT
  COALESCE(`after`.`tailnum`, `before`.`tailnum`) AS `tailnum`,
  `after`.`age_years` AS `age_years`,
  `after`.`year` AS `year`,
  `after`.`manufacturer` AS `manufacturer`,
  `after`.`model` AS `model`,
  `after`.`engines` AS `engines`,
  `after`.`seats` AS `seats`,
  `after`.`engine` AS `engine`,
  TO_TIMESTAMP_LTZ(CASE WHEN `op` = 'd' THEN `ts_ms` ELSE `after`.`updated_at` END, 3) AS `event_time`,
  `op` = 'd' AS `deleted`
FROM sources.`planes`;

CREATE VIEW computed.`carrier_facts` AS
SELECT
  COALESCE(`after`.`carrier`, `before`.`carrier`) AS `carrier`,
  `after`.`name` AS `name`,
  TO_TIMESTAMP_LTZ(CASE WHEN `op` = 'd' THEN `ts_ms` ELSE `after`.`updated_at` END, 3) AS `event_time`,
  `op` = 'd' AS `deleted`
FROM sources.`airlines`;

CREATE VIEW computed.`airport_facts` AS
SELECT
  COALESCE(`after`.`faa`, `before`.`faa`) AS `faa`,
  `after`.`name` AS `name`,
  `after`.`lat` AS `lat`,
  `after`.`lon` AS `lon`,
  `after`.`alt` AS `alt`,
  `after`.`tzone` AS `tzone`,
  TO_TIMESTAMP_LTZ(CASE WHEN `op` = 'd' THEN `ts_ms` ELSE `after`.`updated_at` END, 3) AS `event_time`,
  `op` = 'd' AS `deleted`
FROM sources.`airports`;

CREATE TABLE online.`aircraft_facts` (
  `tailnum` STRING,
  `age_years` BIGINT,
  `year` BIGINT,
  `manufacturer` STRING,
  `model` STRING,
  `engines` BIGINT,
  `seats` BIGINT,
  `engine` STRING,
  `event_time` TIMESTAMP_LTZ(3),
  `deleted` BOOLEAN
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'aircraft_facts',
  'entity-keys' = 'tailnum',
  'event-time' = 'event_time',
  'epoch' = '${epoch}',
  'deleted' = 'deleted'
);

CREATE TABLE online.`carrier_facts` (
  `carrier` STRING,
  `name` STRING,
  `event_time` TIMESTAMP_LTZ(3),
  `deleted` BOOLEAN
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'carrier_facts',
  'entity-keys' = 'carrier',
  'event-time' = 'event_time',
  'epoch' = '${epoch}',
  'deleted' = 'deleted'
);

CREATE TABLE online.`airport_facts` (
  `faa` STRING,
  `name` STRING,
  `lat` DOUBLE,
  `lon` DOUBLE,
  `alt` BIGINT,
  `tzone` STRING,
  `event_time` TIMESTAMP_LTZ(3),
  `deleted` BOOLEAN
) WITH (
  'connector' = 'feast-redis',
  'url' = '${redis}',
  'project' = 'flights',
  'view' = 'airport_facts',
  'entity-keys' = 'faa',
  'event-time' = 'event_time',
  'epoch' = '${epoch}',
  'deleted' = 'deleted'
);

BEGIN STATEMENT SET;

INSERT INTO online.`aircraft_facts`
SELECT `tailnum`, `age_years`, `year`, `manufacturer`, `model`, `engines`, `seats`, `engine`, `event_time`, `deleted`
FROM computed.`aircraft_facts`;

INSERT INTO headwater.features.`aircraft_facts`
SELECT `tailnum`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `age_years`,
  `year`,
  `manufacturer`,
  `model`,
  `engines`,
  `seats`,
  `engine`
FROM computed.`aircraft_facts`;

INSERT INTO online.`carrier_facts`
SELECT `carrier`, `name`, `event_time`, `deleted`
FROM computed.`carrier_facts`;

INSERT INTO headwater.features.`carrier_facts`
SELECT `carrier`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `name`
FROM computed.`carrier_facts`;

INSERT INTO online.`airport_facts`
SELECT `faa`, `name`, `lat`, `lon`, `alt`, `tzone`, `event_time`, `deleted`
FROM computed.`airport_facts`;

INSERT INTO headwater.features.`airport_facts`
SELECT `faa`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `name`,
  `lat`,
  `lon`,
  `alt`,
  `tzone`
FROM computed.`airport_facts`;

END;
