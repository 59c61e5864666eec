"""Commits to tables that jobs commit to as well, every few seconds each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pyiceberg.exceptions import CommitFailedException
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from schemas import HeadwaterError

_T = TypeVar("_T")

ATTEMPTS = 30


class TableBusy(HeadwaterError):
    """A table changed each time that a change of it was to be committed; the text names it."""

    exit_code = 1


def commit_beside_others(name: str, change: Callable[[], _T]) -> _T:
    """What `change` returns, which is called again whenever somebody else committed before it did.

    It must load what it changes anew each time. TableBusy, with `name` in its text, if that
    happened `ATTEMPTS` times, which takes most of a minute.
    """
    try:
        return Retrying(
            retry=retry_if_exception_type(CommitFailedException),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=2),
        )(change)
    except RetryError as error:
        raise TableBusy(
            f"{name}: somebody else committed each of {ATTEMPTS} times that this was to be; try"
            " again, or stop the jobs that write it for the moment"
        ) from error.last_attempt.exception()
