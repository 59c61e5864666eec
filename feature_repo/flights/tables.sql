-- The flights' reference tables, as the airline's own systems would keep them.
-- `updated_at` is since when a row is true, UTC: the event time of the change that Debezium captures.

CREATE TABLE IF NOT EXISTS planes (
  tailnum text PRIMARY KEY,
  year bigint,
  type text,
  manufacturer text,
  model text,
  engines bigint,
  seats bigint,
  engine text,
  age_years bigint,
  updated_at timestamp(3) NOT NULL DEFAULT '2013-01-01'
);

CREATE TABLE IF NOT EXISTS airlines (
  carrier text PRIMARY KEY,
  name text NOT NULL,
  updated_at timestamp(3) NOT NULL DEFAULT '2013-01-01'
);

CREATE TABLE IF NOT EXISTS airports (
  faa text PRIMARY KEY,
  name text NOT NULL,
  lat double precision NOT NULL,
  lon double precision NOT NULL,
  alt bigint NOT NULL,
  tzone text,
  updated_at timestamp(3) NOT NULL DEFAULT '2013-01-01'
);

-- A change is true from now on, unless whoever makes it says since when.
CREATE OR REPLACE FUNCTION since_now() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.updated_at = OLD.updated_at THEN
    NEW.updated_at := clock_timestamp() AT TIME ZONE 'UTC';
  END IF;
  RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER since_now BEFORE UPDATE ON planes
  FOR EACH ROW EXECUTE FUNCTION since_now();
CREATE OR REPLACE TRIGGER since_now BEFORE UPDATE ON airlines
  FOR EACH ROW EXECUTE FUNCTION since_now();
CREATE OR REPLACE TRIGGER since_now BEFORE UPDATE ON airports
  FOR EACH ROW EXECUTE FUNCTION since_now();

-- Not a generated column: logical replication leaves those out of every change after the snapshot.
CREATE OR REPLACE FUNCTION plane_age() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.age_years := EXTRACT(year FROM NEW.updated_at)::bigint - NEW.year;
  RETURN NEW;
END $$;

-- Triggers fire in the order of their names: this one after since_now.
CREATE OR REPLACE TRIGGER then_plane_age BEFORE INSERT OR UPDATE ON planes
  FOR EACH ROW EXECUTE FUNCTION plane_age();
