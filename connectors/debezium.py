"""The Debezium connector of a repository's tables, and Kafka Connect's REST API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import requests

from connectors.capture import HEARTBEAT_QUERY, SIGNALS
from schemas import HeadwaterError, Repository

_SECONDS = 10
_TABLES = "table.include.list"
_PREPARED = ("heartbeat.action.query", "signal.enabled.channels", "signal.data.collection")


class ConnectError(HeadwaterError):
    """Kafka Connect does not answer or refuses; the text says what it said."""

    exit_code = 1


@dataclass(frozen=True)
class Database:
    """The PostgreSQL server the tables are in.

    `password` is a reference that Connect resolves, such as `${file:/path:password}`, never the
    password itself: Connect shows its configuration to whoever asks.
    """

    host: str
    port: int
    name: str
    user: str
    password: str


@dataclass(frozen=True)
class Setting:
    """A setting of a connector as it is and as it should be; None where there is none."""

    found: str | None
    wanted: str | None


def connector_name(repository: Repository) -> str:
    """The connector's name on the Connect cluster."""
    return f"{repository.name}-tables"


def connector_document(
    repository: Repository, database: Database, prepared: bool = True
) -> dict[str, str]:
    """The configuration of the connector that captures every CdcTable of `repository`.

    A database that is not `prepared` by `connectors.capture` has a publication that Debezium
    makes, and neither heartbeats of its own nor snapshots on demand.
    """
    captured = ",".join(table.qualified for table in repository.tables)
    document = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput",
        "database.hostname": database.host,
        "database.port": str(database.port),
        "database.dbname": database.name,
        "database.user": database.user,
        "database.password": database.password,
        "topic.prefix": repository.name,
        _TABLES: captured,
        "slot.name": f"headwater_{repository.name}",
        "publication.name": f"headwater_{repository.name}",
        # `headwater connectors apply` makes it, and with it what it publishes.
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "initial",
        # Milliseconds, as event producers send them.
        "time.precision.mode": "connect",
        "decimal.handling.mode": "double",
        "tombstones.on.delete": "false",
        # An idle database would otherwise keep its write-ahead log for ever.
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": HEARTBEAT_QUERY,
        "topic.heartbeat.prefix": "__debezium-heartbeat",
        "signal.enabled.channels": "source",
        "signal.data.collection": SIGNALS,
        # TRUNCATE is no change of a row: it is not passed on.
        "skipped.operations": "t",
        "topic.creation.default.partitions": "1",
        "topic.creation.default.replication.factor": "1",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        # A null stays one also where its column has a default.
        "key.converter.replace.null.with.default": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "value.converter.replace.null.with.default": "false",
        # Connect and PostgreSQL come back from a restart without anyone's help.
        "errors.max.retries": "-1",
        "retriable.restart.connector.wait.ms": "2000",
    }
    if not prepared:
        document["publication.autocreate.mode"] = "filtered"
        for name in _PREPARED:
            del document[name]
    return document


def added(changed: dict[str, Setting]) -> set[str]:
    """Tables, as `schema.table`, that a connector which was there did not capture before.

    Debezium reads the present rows of those that a new connector begins with, and of one that is
    added later none.
    """
    setting = changed.get(_TABLES)
    if setting is None or setting.found is None:
        return set()
    return {*(setting.wanted or "").split(",")} - {*setting.found.split(",")}


def is_new(changed: dict[str, Setting]) -> bool:
    """Whether there is no such connector yet."""
    return _TABLES in changed and all(setting.found is None for setting in changed.values())


class ConnectCluster:
    """Kafka Connect at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def difference(self, name: str, document: dict[str, str]) -> dict[str, Setting]:
        """What `apply` would change, by the name of the setting."""
        found: dict[str, str] = {}
        if name in self._call("GET", "/connectors"):
            found = self._call("GET", f"/connectors/{name}/config")
            found.pop("name", None)
        return {
            key: Setting(found.get(key), document.get(key))
            for key in sorted({*found, *document})
            if found.get(key) != document.get(key)
        }

    def apply(self, name: str, document: dict[str, str]) -> dict[str, Setting]:
        """Create or change a connector; what was changed, by the name of the setting."""
        if changed := self.difference(name, document):
            self._call("PUT", f"/connectors/{name}/config", document)
        return changed

    def pause(self, name: str) -> None:
        """Stop reading; changes wait in the database's log, which grows meanwhile."""
        self._call("PUT", f"/connectors/{name}/pause")

    def stop(self, name: str, seconds: float) -> None:
        """End its tasks, until `resume`; ConnectError if they do not end in time.

        Those that come then were made of its configuration as it is by then. While it is changed
        otherwise, Connect may start tasks of the old one, and says that they run.
        """
        if name not in self._call("GET", "/connectors"):
            return
        self._call("PUT", f"/connectors/{name}/stop")
        deadline = time.monotonic() + seconds
        while (states := self.status(name)) != {"connector": "STOPPED"}:
            if time.monotonic() > deadline:
                raise ConnectError(f"connector {name} has not stopped: {states}")
            time.sleep(0.2)

    def resume(self, name: str) -> None:
        """Go on where it was paused or stopped."""
        self._call("PUT", f"/connectors/{name}/resume")

    def status(self, name: str) -> dict[str, str]:
        """The state of the connector and of each task; a failed one with its first line."""
        found = self._call("GET", f"/connectors/{name}/status")
        parts = {"connector": found["connector"]} | {
            f"task {task['id']}": task for task in found["tasks"]
        }
        return {
            part: state["state"]
            + (f": {state['trace'].splitlines()[0]}" if "trace" in state else "")
            for part, state in parts.items()
        }

    def restart(self, name: str) -> None:
        """Restart the connector and its tasks; it goes on from the offset it has stored."""
        self._call("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=false")

    def wait(self, name: str, seconds: float) -> None:
        """Return once the connector and a task run; ConnectError if they do not in time."""
        deadline = time.monotonic() + seconds
        states: dict[str, str] = {}
        while time.monotonic() < deadline:
            try:
                states = self.status(name)
            except ConnectError:  # not there yet
                states = {}
            if len(states) > 1 and set(states.values()) == {"RUNNING"}:
                return
            if any(state.startswith("FAILED") for state in states.values()):
                break
            time.sleep(0.2)
        raise ConnectError(f"connector {name} does not run: {states or 'no status'}")

    def _call(self, method: str, path: str, document: object = None) -> Any:
        try:
            answer = requests.request(method, f"{self.url}{path}", json=document, timeout=_SECONDS)
        except requests.RequestException as error:
            raise ConnectError(f"Connect at {self.url} does not answer ({error})") from error
        if not answer.ok:
            raise ConnectError(
                f"Connect: {method} {path}: {answer.status_code} {answer.text[:500]}"
            )
        return answer.json() if answer.content else None
