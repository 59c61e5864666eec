"""Looks at something now and then, beside the requests."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import suppress

_log = logging.getLogger(__name__)


class Watch(ABC):
    """Looks when it is started, and again every so many seconds until it is stopped."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def look(self) -> None:
        """Look once; what it raises is logged, and the next look comes all the same."""

    async def start(self) -> None:
        """Look now, and from now on; an error of this first look is the caller's."""
        await self.look()
        self._task = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.look()
            except Exception:
                _log.exception("%s could not look", type(self).__name__)
