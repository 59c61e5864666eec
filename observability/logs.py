"""Logs as lines of JSON, each with its trace where it belongs to one."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

TRACE_ID = "trace_id"
"""The name under which a record has its trace: `log.error(…, extra={TRACE_ID: …})`."""


class JsonLines(logging.Formatter):
    """`{"time", "level", "service", "logger", "message"}`, and `trace_id` and `error` if any."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace_id := getattr(record, TRACE_ID, None):
            line[TRACE_ID] = str(trace_id)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up(service: str, stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """All logs of this process, warnings among them, go to `stream` as lines of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
