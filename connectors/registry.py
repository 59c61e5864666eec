"""A schema registry that speaks the Confluent protocol, for those who have one.

Subjects are `<topic>-value`, the name that every client of the protocol looks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import requests

from schemas import HeadwaterError

_SECONDS = 10
_HEADERS = {"Content-Type": "application/vnd.schemaregistry.v1+json"}


class RegistryError(HeadwaterError):
    """The registry does not answer or refuses; the text says what it said."""

    exit_code = 1


class SchemaRegistry:
    """The registry at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def register(self, topic: str, schema: Mapping[str, Any]) -> int:
        """The id of a topic's schema; RegistryError if it does not follow, by the level set."""
        answer = self._call("POST", f"/subjects/{topic}-value/versions", _body(schema))
        return int(answer["id"])

    def latest(self, topic: str) -> dict[str, Any] | None:
        """The newest schema of a topic; None if it has none."""
        try:
            answer = self._call("GET", f"/subjects/{topic}-value/versions/latest")
        except _NotFound:
            return None
        found: dict[str, Any] = json.loads(answer["schema"])
        return found

    def set_level(self, topic: str, level: str) -> None:
        """What the registry asks of the topic's next version, such as `backward`."""
        self._call("PUT", f"/config/{topic}-value", {"compatibility": level.upper()})

    def _call(self, method: str, path: str, body: object = None) -> Any:
        try:
            answer = requests.request(
                method, f"{self._url}{path}", json=body, headers=_HEADERS, timeout=_SECONDS
            )
        except requests.RequestException as error:
            raise RegistryError(f"the schema registry does not answer ({error})") from error
        if answer.status_code == 404:
            raise _NotFound(f"schema registry: {method} {path}: {answer.text[:300]}")
        if not answer.ok:
            raise RegistryError(
                f"schema registry: {method} {path}: {answer.status_code} {answer.text[:500]}"
            )
        return answer.json()


class _NotFound(RegistryError):
    pass


def _body(schema: Mapping[str, Any]) -> dict[str, str]:
    return {"schemaType": "JSON", "schema": json.dumps(schema)}
