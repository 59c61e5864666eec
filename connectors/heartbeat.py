"""Heartbeats: records that are a time alone, so that the watermark moves while no event comes.

Without them the values of a silent stream stay as they are: nothing says that time has passed. A
heartbeat of now says that no event older than now less the stream's disorder is still to come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.access import KafkaAccess
from connectors.log import Log
from connectors.topics import KafkaUnavailable
from schemas import EventStream

_PREFIX = b'{"$heartbeat":'
_SECONDS = 10


def payload(milliseconds: int) -> bytes:
    """The record's value."""
    return b"%b%d}" % (_PREFIX, milliseconds)


def is_heartbeat(value: bytes | None) -> bool:
    """Whether a record's value is a heartbeat."""
    return value is not None and value.startswith(_PREFIX)


def heartbeat_time(value: bytes | None) -> int | None:
    """The time of a heartbeat, milliseconds since 1970 UTC; None for any other record's value."""
    if value is None or not is_heartbeat(value):
        return None
    digits = value[len(_PREFIX) : -1]
    return int(digits) if digits.isdigit() and value.endswith(b"}") else None


def beat(access: KafkaAccess, streams: Sequence[EventStream], milliseconds: int) -> int:
    """One heartbeat of that time to each partition of each stream; how many were sent.

    KafkaUnavailable if Kafka refuses one, or does not answer.
    """
    log = Log(access)
    failed: list[str] = []
    sent = 0
    try:
        producer = Producer({**access.librdkafka(), "log_level": 0})
        for stream in streams:
            for partition in log.bounds(stream.topic):
                producer.produce(
                    stream.topic,
                    payload(milliseconds),
                    partition=partition,
                    timestamp=milliseconds,
                    on_delivery=_noting(failed, stream.topic),
                )
                sent += 1
        left = producer.flush(_SECONDS)
    except (KafkaException, BufferError) as error:
        raise _refused(access, str(error)) from error
    if left or failed:
        raise _refused(access, failed[0] if failed else f"no answer in {_SECONDS} s")
    return sent


def _refused(access: KafkaAccess, what: str) -> KafkaUnavailable:
    return KafkaUnavailable(f"Kafka at {access.bootstrap} takes no heartbeat: {what}")


def _noting(failed: list[str], topic: str) -> Callable[[KafkaError | None, Message], None]:
    """Takes what Kafka says of a heartbeat, and notes that it refuses it."""

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(f"{topic}: {error.str()}")

    return delivered


def keep_beating(
    access: KafkaAccess,
    streams: Sequence[EventStream],
    stop: Event,
    tell: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> None:
    """Heartbeats of the streams that declare one, each as often as it says, until `stop` is set.

    Kafka that is away, or refuses, is told and tried again.
    """
    due = {stream: 0.0 for stream in streams if stream.heartbeat is not None}
    while due and not stop.is_set():
        moment = now()
        ready = [stream for stream, at in due.items() if at <= moment]
        try:
            if ready:
                beat(access, ready, round(moment * 1000))
        except KafkaUnavailable as error:
            tell(str(error))
        for stream in ready:
            assert stream.heartbeat is not None
            due[stream] = moment + stream.heartbeat.seconds
        stop.wait(max(0.1, min(due.values()) - now()))
