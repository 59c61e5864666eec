CREATE TABLE `departures` (
  `event_time` BIGINT,
  `carrier` STRING,
  `flight` BIGINT,
  `tailnum` STRING,
  `origin` STRING,
  `dest` STRING,
  `scheduled` BIGINT,
  `dep_delay` DOUBLE,
  `distance` DOUBLE,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.departures',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset'
);

CREATE TABLE `arrivals` (
  `event_time` BIGINT,
  `carrier` STRING,
  `flight` BIGINT,
  `tailnum` STRING,
  `origin` STRING,
  `dest` STRING,
  `scheduled` BIGINT,
  `arr_delay` DOUBLE,
  `air_time` DOUBLE,
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.arrivals',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset'
);

CREATE TABLE `weather` (
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
  `rowtime` AS TO_TIMESTAMP_LTZ(`event_time`, 3),
  WATERMARK FOR `rowtime` AS `rowtime` - INTERVAL '300' SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.weather',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset'
);

CREATE TABLE `planes` (
  `before` ROW<`tailnum` STRING, `year` BIGINT, `type` STRING, `manufacturer` STRING, `model` STRING, `engines` BIGINT, `seats` BIGINT, `engine` STRING, `age_years` BIGINT, `updated_at` BIGINT>,
  `after` ROW<`tailnum` STRING, `year` BIGINT, `type` STRING, `manufacturer` STRING, `model` STRING, `engines` BIGINT, `seats` BIGINT, `engine` STRING, `age_years` BIGINT, `updated_at` BIGINT>,
  `op` STRING,
  `ts_ms` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.planes',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset'
);

CREATE TABLE `airlines` (
  `before` ROW<`carrier` STRING, `name` STRING, `updated_at` BIGINT>,
  `after` ROW<`carrier` STRING, `name` STRING, `updated_at` BIGINT>,
  `op` STRING,
  `ts_ms` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airlines',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset'
);

CREATE TABLE `airports` (
  `before` ROW<`faa` STRING, `name` STRING, `lat` DOUBLE, `lon` DOUBLE, `alt` BIGINT, `tzone` STRING, `updated_at` BIGINT>,
  `after` ROW<`faa` STRING, `name` STRING, `lat` DOUBLE, `lon` DOUBLE, `alt` BIGINT, `tzone` STRING, `updated_at` BIGINT>,
  `op` STRING,
  `ts_ms` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.public.airports',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset'
);
