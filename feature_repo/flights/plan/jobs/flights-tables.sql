SET 'pipeline.name' = 'flights-tables';

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

CREATE TABLE sources.`planes` (
  `before` ROW<`tailnum` STRING>,
  `after` ROW<`tailnum` STRING, `year` BIGINT, `type` STRING, `manufacturer` STRING, `model` STRING, `engines` BIGINT, `seats` BIGINT, `engine` STRING, `age_years` BIGINT, `updated_at` BIGINT>,
  `op` STRING,
  `source` ROW<`ts_ms` BIGINT>,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.planes',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'headwater-json.required' = 'source;source.ts_ms;before.tailnum;after.tailnum;after.updated_at',
  'headwater-json.timestamps' = 'source.ts_ms;after.updated_at',
  'headwater-json.debezium' = 'true'
);

CREATE TABLE sources.`airlines` (
  `before` ROW<`carrier` STRING>,
  `after` ROW<`carrier` STRING, `name` STRING, `updated_at` BIGINT>,
  `op` STRING,
  `source` ROW<`ts_ms` BIGINT>,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airlines',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'headwater-json.required' = 'source;source.ts_ms;before.carrier;after.carrier;after.name;after.updated_at',
  'headwater-json.timestamps' = 'source.ts_ms;after.updated_at',
  'headwater-json.debezium' = 'true'
);

CREATE TABLE sources.`airports` (
  `before` ROW<`faa` STRING>,
  `after` ROW<`faa` STRING, `name` STRING, `lat` DOUBLE, `lon` DOUBLE, `alt` BIGINT, `tzone` STRING, `updated_at` BIGINT>,
  `op` STRING,
  `source` ROW<`ts_ms` BIGINT>,
  `dead_reason` STRING METADATA FROM 'value.reason' VIRTUAL,
  `dead_payload` BYTES METADATA FROM 'value.payload' VIRTUAL,
  `kafka_partition` INT METADATA FROM 'partition' VIRTUAL,
  `kafka_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `kafka_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airports',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'headwater-json',
  'headwater-json.required' = 'source;source.ts_ms;before.faa;after.faa;after.name;after.lat;after.lon;after.alt;after.updated_at',
  'headwater-json.timestamps' = 'source.ts_ms;after.updated_at',
  'headwater-json.debezium' = 'true'
);

CREATE TABLE dead.`planes` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.planes.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
);

CREATE TABLE dead.`airlines` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airlines.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
);

CREATE TABLE dead.`airports` (
  `payload` BYTES,
  `headers` MAP<STRING, BYTES> METADATA,
  `time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airports.dead',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.max.request.size' = '2097152',
  'format' = 'raw'
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
  TO_TIMESTAMP_LTZ(CASE WHEN `op` = 'd' THEN `source`.`ts_ms` ELSE `after`.`updated_at` END, 3) AS `event_time`,
  `op` = 'd' AS `deleted`
FROM sources.`planes`
WHERE `dead_reason` IS NULL;

CREATE VIEW computed.`carrier_facts` AS
SELECT
  COALESCE(`after`.`carrier`, `before`.`carrier`) AS `carrier`,
  `after`.`name` AS `name`,
  TO_TIMESTAMP_LTZ(CASE WHEN `op` = 'd' THEN `source`.`ts_ms` ELSE `after`.`updated_at` END, 3) AS `event_time`,
  `op` = 'd' AS `deleted`
FROM sources.`airlines`
WHERE `dead_reason` IS NULL;

CREATE VIEW computed.`airport_facts` AS
SELECT
  COALESCE(`after`.`faa`, `before`.`faa`) AS `faa`,
  `after`.`name` AS `name`,
  `after`.`lat` AS `lat`,
  `after`.`lon` AS `lon`,
  `after`.`alt` AS `alt`,
  `after`.`tzone` AS `tzone`,
  TO_TIMESTAMP_LTZ(CASE WHEN `op` = 'd' THEN `source`.`ts_ms` ELSE `after`.`updated_at` END, 3) AS `event_time`,
  `op` = 'd' AS `deleted`
FROM sources.`airports`
WHERE `dead_reason` IS NULL;

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

INSERT INTO dead.`planes`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.public.planes', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`planes`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO dead.`airlines`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.public.airlines', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`airlines`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO dead.`airports`
SELECT `dead_payload`, MAP[
  'reason', ENCODE(`dead_reason`, 'UTF-8'),
  'topic', ENCODE('flights.public.airports', 'UTF-8'),
  'partition', ENCODE(CAST(`kafka_partition` AS STRING), 'UTF-8'),
  'offset', ENCODE(CAST(`kafka_offset` AS STRING), 'UTF-8')
],
  CASE WHEN `kafka_time` >= TO_TIMESTAMP_LTZ(0, 3) THEN `kafka_time` END
FROM sources.`airports`
WHERE `dead_reason` <> 'heartbeat';

INSERT INTO online.`aircraft_facts`
SELECT `tailnum`, `age_years`, `year`, `manufacturer`, `model`, `engines`, `seats`, `engine`, `event_time`, `deleted`
FROM computed.`aircraft_facts`;

INSERT INTO headwater.features.`aircraft_facts`
  (`tailnum`, `event_time`, `available_at`, `age_years`, `year`, `manufacturer`, `model`, `engines`, `seats`, `engine`)
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
  (`carrier`, `event_time`, `available_at`, `name`)
SELECT `carrier`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `name`
FROM computed.`carrier_facts`;

INSERT INTO online.`airport_facts`
SELECT `faa`, `name`, `lat`, `lon`, `alt`, `tzone`, `event_time`, `deleted`
FROM computed.`airport_facts`;

INSERT INTO headwater.features.`airport_facts`
  (`faa`, `event_time`, `available_at`, `name`, `lat`, `lon`, `alt`, `tzone`)
SELECT `faa`, `event_time`,
  CURRENT_TIMESTAMP AS `available_at`,
  `name`,
  `lat`,
  `lon`,
  `alt`,
  `tzone`
FROM computed.`airport_facts`;

END;
