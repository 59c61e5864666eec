"""Whether a job can go on from the savepoint of its older self, and if not, why."""

from __future__ import annotations

import json
import re
from typing import Any

_VIEW = re.compile(
    r"CREATE VIEW (?:rolled|computed)\.`(\w+)` AS\n(?:[^;]*?spec => '((?:[^']|'')*)')?", re.DOTALL
)
_EXPECTED = re.compile(r"CREATE VIEW checked\.`([a-z]\w*)` AS\n([^;]*)")
# What a stream that is traced adds. A temporal join's state holds it, no other state does; where a
# view's expectations are summed up it moves operators, and so what their state is known by.
_TRACES = re.compile(
    r"""\n  `_headers` MAP<STRING, BYTES> METADATA FROM 'headers' VIRTUAL,"""
    r"""|\n  `_traceparent` AS [^\n]*,|, `_traceparent`|,\n  `_trace` STRING"""
    r"""|, (?:`result`\.`_trace` AS )?`_trace`"""
    r"""|"trace":"_traceparent","""
)
_MOVED = ("FROM temporal_join(", "FROM timed(")
_OPTIONS = re.compile(r"\) WITH \(\n(.*?)\n\);", re.DOTALL)
_TOPIC = re.compile(r"'topic' = '[^']*'")
# Older scripts do not name the columns they write, which are those they select.
_COLUMNS = re.compile(r"(INSERT INTO headwater\.features\.`\w+`)\n  \([^)]*\)")
# What is left out of the archive changes no operator.
_RULES = re.compile(r"(`rowtime` AS )CASE WHEN [^\n]* THEN (TO_TIMESTAMP_LTZ\([^)]*\)) END")
_LEFT_OUT = "\nWHERE `rowtime` IS NOT NULL"
# Nor does a key that need not be there: a row without it is left out where dead letters are.
_KEYS = re.compile(r"(?<=WHERE `dead_reason` IS NULL)(?: AND `\w+` IS NOT NULL)+")


def breaks(old: str, new: str) -> list[str]:
    """Why the state of the job with the script `old` does not fit `new`; empty if it does.

    State fits a script that reads, computes and writes the same and differs in its connectors'
    options alone, but for their topics, or in whether events are traced. A view's state holds what
    its features need and nothing else: of an added feature it has no past, and Flink numbers the
    operators of a job by their place in the query.
    """
    if not any(part in script for part in _MOVED for script in (old, new)):
        old, new = _TRACES.sub("", old), _TRACES.sub("", new)
    before, after = _views(old), _views(new)
    reasons = [f"{view}: is new" for view in after if view not in before]
    reasons += [f"{view}: is gone" for view in before if view not in after]
    for view in after:
        if view in before and before[view] != after[view]:
            reasons += [f"{view}: {text}" for text in _features(before[view], after[view])]
    was, expected = (dict(_EXPECTED.findall(script)) for script in (old, new))
    reasons += [
        f"{view}: what is expected of it has changed"
        for view in after
        if view in before and was.get(view) != expected.get(view)
    ]
    if not reasons and _query(old) != _query(new):
        reasons.append("what it reads or how has changed")
    return reasons


def _views(script: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _VIEW.finditer(script):
        found[match[1]] = match[2] or found.get(match[1], "")
    return found


def _features(old: str, new: str) -> list[str]:
    before, after = _by_name(old), _by_name(new)
    texts = [f"{name} is new" for name in after if name not in before]
    texts += [f"{name} is gone" for name in before if name not in after]
    for name in after:
        if name in before and before[name] != after[name]:
            changed = {
                key: (before[name].get(key), after[name].get(key))
                for key in before[name] | after[name]
                if before[name].get(key) != after[name].get(key)
            }
            told = ", ".join(f"{key} was {a}, is {b}" for key, (a, b) in changed.items())
            texts.append(f"{name} has changed ({told})")
    if before == after and list(before) == list(after):
        return []  # what is traced has changed, as the query says
    return texts or ["its features stand in another order"]


def _by_name(spec: str) -> dict[str, dict[str, Any]]:
    if not spec:
        return {}
    return {feature["name"]: feature for feature in json.loads(spec.replace("''", "'"))["features"]}


def way_out(script: str) -> str:
    """What to do where a job's state does not fit its new script, as a sentence."""
    to = "" if "WATERMARK FOR" in script else " --to T"  # captured tables alone have none
    return (
        f"`headwater replay run VIEW… --from T{to} --promote` computes the past anew and starts it"
        " from there"
    )


def _query(script: str) -> str:
    script = _RULES.sub(r"\1\2", script).replace(_LEFT_OUT, "")
    script = _KEYS.sub("", script)
    return _COLUMNS.sub(r"\1", _OPTIONS.sub(_topic, script))


def _topic(options: re.Match[str]) -> str:
    """What state depends on of a connector: the topic whose offsets it holds."""
    found = _TOPIC.search(options[1])
    return f") {found[0]};" if found else ");"
