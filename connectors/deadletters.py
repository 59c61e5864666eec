"""Dead letters: the records of a topic that could not be read, kept until somebody decides.

A letter stands on `<topic>.dead` with the untouched payload, the time of its record, and headers
`reason`, `topic`, `partition` and `offset`. Of a record that is too large it has the first bytes
alone, which are not sent again. Its id is `topic/partition/offset`: after a restart the job may
send a letter again, and the same id is the same letter. What happened to a letter stands on the
same topic, as a note: a record with a header `note` and a JSON list of ids.

    sending    about to be sent to its topic again, whose ends were `ends`
    replayed   sent
    purged     the payload is removed, the letter stays counted
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.access import KafkaAccess
from connectors.ddl import DEAD_MESSAGE_BYTES
from connectors.log import Log
from connectors.topics import KafkaUnavailable
from schemas import HeadwaterError
from schemas.topics import dead_topic

AGAIN = "headwater.dead"
"""The header of a record that was a dead letter: the letter's id."""

_SECONDS = 10
_NOTES = 5000
_BYTES = 64 << 20
_GONE = -1
_STATES = ("open", "sending", "replayed", "purged")
_CUT = "size"


class UnknownLetter(HeadwaterError):
    """There is no such dead letter; the text names it."""


@dataclass(frozen=True)
class Letter:
    """One dead letter."""

    topic: str
    """The topic of the record, not of the letter."""

    partition: int
    offset: int
    reason: str
    """`kind: what was expected - where`, never a value."""

    time: int
    """Of the record, milliseconds since 1970 UTC."""

    state: str = "open"
    payload: bytes | None = None
    place: int = _GONE
    """The letter's own offset on the dead topic, if it is still there."""

    @property
    def id(self) -> str:
        """`topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def kind(self) -> str:
        """The first word of the reason."""
        return self.reason.partition(":")[0]

    @property
    def is_cut(self) -> bool:
        """Whether the payload is the first bytes alone."""
        return self.kind == _CUT


class Replayed(NamedTuple):
    """What became of the letters that were to be sent to their topic again."""

    sent: int
    cut: int
    """Left alone, since but the beginning of their record is there."""


class DeadLetters:
    """The dead letters of some topics on the Kafka at `access`."""

    def __init__(self, access: KafkaAccess, topics: Iterable[str]) -> None:
        self._access = access
        # Letters, notes and what is sent again are in no transaction. What is, of somebody else, is
        # not to hide them while it is open.
        self._log = Log(access, uncommitted=True)
        self.topics = tuple(topics)

    def read(self, topic: str) -> list[Letter]:
        """All letters of a topic without their payloads, each once, as they first came."""
        return list(self._fold(topic)[0].values())

    def find(self, id_: str) -> Letter:
        """The letter of that id, payload included; UnknownLetter if there is none."""
        topic = self.topic_of(id_)
        letters, _ = self._fold(topic)
        (letter,) = _chosen([id_], letters)
        return next(self.with_payloads(topic, [letter]), letter)

    def with_payloads(self, topic: str, letters: Iterable[Letter]) -> Iterator[Letter]:
        """Letters of a topic as they lie there, without those whose payload is gone.

        One after the other: all payloads at once may not fit the memory.
        """
        left = {letter.place: letter for letter in letters if letter.place != _GONE}
        if not left:
            return
        for message in self._log.messages(dead_topic(topic), {0: min(left)}):
            if letter := left.pop(message.offset() or 0, None):
                yield replace(letter, payload=message.value())
            if not left:
                return

    def topic_of(self, id_: str) -> str:
        """The topic of a letter's record; UnknownLetter if it is none of these."""
        topic = id_.rsplit("/", 2)[0]
        if topic not in self.topics:
            raise UnknownLetter(f"no dead letter {id_!r}: topics are {', '.join(self.topics)}")
        return topic

    def replay(self, topic: str, ids: Collection[str]) -> Replayed:
        """Send letters to their topic again, each to its own partition.

        Those replayed or purged before are left alone, and so are those that are cut. Interrupted,
        the next run finds on the topic which letters had been sent already. Two at once would send
        each letter twice. UnknownLetter if one is not there.
        """
        letters, starts = self._fold(topic)
        waiting = [x for x in _chosen(ids, letters) if x.state in ("open", "sending")]
        chosen = [letter for letter in waiting if not letter.is_cut]
        begun = any(letter.state == "sending" for letter in chosen)
        there = self._sent_already(topic, starts) if begun else set()
        sent = 0
        for batch in _batches(self.with_payloads(topic, chosen)):
            missing = [letter for letter in batch if letter.id not in there]
            self._note(topic, "sending", missing, {"ends": self._log.ends(topic)})
            self._send(
                (topic, letter.payload, letter.partition, letter.time, {AGAIN: letter.id})
                for letter in missing
            )
            self._note(topic, "replayed", batch)
            sent += len(missing)
        return Replayed(sent, len(waiting) - len(chosen))

    def purge(self, topic: str, before: int | None = None) -> int:
        """Remove the payloads of letters whose records are older than `before`; how many.

        None removes all. The letters stay counted: their ids and reasons are written down anew.
        Kafka removes a topic's beginning only, so that a letter behind a newer one stays.
        """
        letters, starts = self._fold(topic)
        going = _beginning(letters.values(), before)
        if not going:
            return 0
        for letter in going:
            letters[letter.id] = replace(letter, state="purged")
        self._note_anew(topic, letters.values(), starts)
        self._remove(topic, going[-1].place + 1)
        return len(going)

    def _note_anew(
        self, topic: str, letters: Collection[Letter], starts: Mapping[int, int]
    ) -> None:
        """Write down the states of all letters but open ones, before older notes are removed.

        A note goes with the beginning that it stands in, and its letter may stay: it may have been
        purged before, or have come a second time since.
        """
        for state in _STATES[1:]:
            more = {"ends": starts} if state == "sending" else None
            for batch in _batches(x for x in letters if x.state == state):
                self._note(topic, state, batch, more)

    def _remove(self, topic: str, end: int) -> None:
        """Have Kafka remove what stands before that place of the dead topic; KafkaUnavailable."""
        admin = AdminClient(self._access.librdkafka())
        where = TopicPartition(dead_topic(topic), 0, end)
        try:
            for future in admin.delete_records([where], operation_timeout=_SECONDS).values():
                future.result()
        except KafkaException as error:
            raise KafkaUnavailable(f"Kafka at {self._access.bootstrap}: {error}") from error

    def _fold(self, topic: str) -> tuple[dict[str, Letter], dict[int, int]]:
        """Letters by id, and from where on the topic may have letters that were sent again."""
        letters: dict[str, Letter] = {}
        starts: dict[int, int] = {}
        for message in self._log.messages(dead_topic(topic)):
            headers = _headers(message)
            if "note" in headers:
                note = json.loads(message.value() or b"{}")
                for name, end in note.get("ends", {}).items():
                    starts[int(name)] = min(end, starts.get(int(name), end))
                for partition, offset, reason, time in note["letters"]:
                    letter = Letter(topic, partition, offset, reason, time)
                    known = letters.get(letter.id, letter)
                    state = headers["note"].decode()
                    if _STATES.index(state) >= _STATES.index(known.state):
                        letters[letter.id] = replace(known, state=state)
                continue
            if "offset" not in headers:
                continue  # not ours
            letter = Letter(
                topic,
                int(headers["partition"]),
                int(headers["offset"]),
                headers["reason"].decode("utf-8", "replace"),
                message.timestamp()[1],
                place=message.offset() or 0,
            )
            known = letters.get(letter.id, letter)
            letters[letter.id] = replace(letter, state=known.state)
        return letters, starts

    def _sent_already(self, topic: str, starts: Mapping[int, int]) -> set[str]:
        return {
            headers[AGAIN].decode()
            for message in self._log.messages(topic, starts)
            if AGAIN in (headers := _headers(message))
        }

    def _note(
        self, topic: str, note: str, letters: list[Letter], more: Mapping[str, Any] | None = None
    ) -> None:
        if letters:
            told = [[x.partition, x.offset, x.reason, x.time] for x in letters]
            value = json.dumps({"letters": told, **(more or {})}).encode()
            time = max(letter.time for letter in letters)
            self._send([(dead_topic(topic), value, 0, time, {"note": note})])

    def _send(self, records: Iterable[tuple[str, bytes | None, int, int, dict[str, str]]]) -> None:
        failed: list[str] = []
        producer = Producer(
            {
                **self._access.librdkafka(),
                "enable.idempotence": True,
                "message.max.bytes": DEAD_MESSAGE_BYTES,
                "log_level": 0,
            }
        )
        for topic, value, partition, time, headers in records:
            while True:
                try:
                    producer.produce(
                        topic,
                        value,
                        partition=partition,
                        timestamp=time,
                        headers=list(headers.items()),
                        on_delivery=lambda error, _: failed.append(error.str()) if error else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        left = producer.flush(60)
        if left or failed:
            reason = failed[0] if failed else "no acknowledgement"
            raise KafkaUnavailable(f"Kafka at {self._access.bootstrap}: {reason}")


def _chosen(ids: Collection[str], letters: Mapping[str, Letter]) -> list[Letter]:
    for id_ in ids:
        if id_ not in letters:
            raise UnknownLetter(f"no dead letter {id_!r}")
    return [letters[id_] for id_ in dict.fromkeys(ids)]


def _beginning(letters: Iterable[Letter], before: int | None) -> list[Letter]:
    """The letters that lie before the first whose record is not older than `before`."""
    there = sorted((x for x in letters if x.place != _GONE), key=lambda x: x.place)
    return list(takewhile(lambda x: before is None or x.time < before, there))


def _headers(message: Message) -> dict[str, bytes]:
    found: Any = message.headers() or ()  # its annotation leaves out what it is
    return {name: value or b"" for name, value in found}


def _batches(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    """As many as one note names, and fit the memory."""
    batch: list[Letter] = []
    size = 0
    for letter in letters:
        batch.append(letter)
        size += len(letter.payload or b"")
        if len(batch) == _NOTES or size >= _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
