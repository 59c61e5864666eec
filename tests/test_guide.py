"""docs/repository.md: its files and commands, as they stand there, do what it says."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import shutil
import subprocess
from datetime import datetime

import pytest

from headwater.local.platform import Platform
from headwater.settings import Settings
from tests.conftest import ROOT, eventually
from tests.ports import free_ports

GUIDE = (ROOT / "docs" / "repository.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
FILES = {
    found[1]: text
    for kind, text in BLOCKS
    if kind in ("python", "sql") and (found := re.match(r"(?:#|--) (\S+)\n", text))
}
LINES = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
SETTING = re.compile(r"export |\w+=\S+$|\w+\(\) ")
"""A line that later ones of the same shell need."""

WINDOWS = {"1h": (3_600_000, 60_000), "1d": (86_400_000, 3_600_000)}
FACTS = {"4711": ["GB", 1000.0], "6011": ["GB", 500.0]}


class Checkout:
    """A folder with the guide's files beside all that is in this one."""

    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "feature_repo").mkdir(parents=True)
        rooms = ("api", "connectors", "flink_jobs", "headwater", "iceberg", "observability")
        parts = [path.relative_to(ROOT) for path in (ROOT / "feature_repo").iterdir()]
        for path in ("build", "pyproject.toml", *rooms, *parts):
            (folder / path).symlink_to(ROOT / path)
        shutil.copytree(ROOT / "schemas", folder / "schemas")
        # As a reader's shell: none of the repositories that the tests are told of.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        self.environ = inherited | free_ports()
        self.environ["HEADWATER_CHECKPOINT_SECONDS"] = "2"
        for part in ("TASKMANAGER", "KAFKA"):
            self.environ[f"HEADWATER_{part}_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
        state = {"HEADWATER_STATE": str(folder / ".headwater")}
        self.settings = Settings.read(self.environ | state)
        self.left = {one for one in LINES if not SETTING.match(one)}
        """The lines that were not run."""

        for line in LINES:
            if line.startswith("mkdir "):
                self.typed(line)
        for path, text in FILES.items():
            (folder / path).write_text(self.here(text), "utf-8")

    def here(self, text):
        """With this platform's ports for those of a platform that is told none."""
        ports = self.settings.ports
        for told, port in ((18080, ports.api), (15432, ports.postgres), (19092, ports.kafka)):
            text = re.sub(rf"\b{told}\b", str(port), text)
        return text

    def typed(self, line):
        """Run a line of the guide, after those before it that set something; what it said."""
        assert line in LINES, f"the guide does not say {line}"
        self.left.discard(line)
        before = [one for one in LINES[: LINES.index(line)] if SETTING.match(one)]
        script = "\n".join(map(self.here, [*before, line]))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def checkout():
    """The guide's files, and no server; what a test of this module starts is stopped at the end."""
    checkout = Checkout(ROOT / "build" / f"test-guide-{os.getpid()}")
    yield checkout
    platform = Platform(checkout.settings)
    platform.down((), print)
    platform.erase()
    shutil.rmtree(checkout.folder)


@pytest.fixture(scope="module")
def typed(checkout):
    """Runs a line of the guide."""
    return checkout.typed


def line(beginning):
    """The guide's line that begins so."""
    (found,) = [one for one in LINES if one.startswith(beginning)]
    return found


def block(kind):
    """The guide's one block of that language."""
    (found,) = [text for language, text in BLOCKS if language == kind]
    return found


def clock(text):
    """A time of the guide's morning, in milliseconds since 1970 UTC."""
    return round(datetime.fromisoformat(f"2026-03-02T{text}+00:00").timestamp() * 1000)


def sent():
    """The payments that bank/send.py sends: (milliseconds, card, amount, country)."""
    (listed,) = re.findall(r"^MORNING = (\[.*?^\])", FILES["bank/send.py"], re.M | re.S)
    return [(clock(text), *rest) for text, *rest in ast.literal_eval(listed)]


def spending(card, at):
    """The features of a card at a time, by what docs/rolling.md says of windows."""
    its = [one for one in sent() if one[1] == card and one[0] <= at]
    counts, sums = [], []
    for size, tile in WINDOWS.values():
        amounts = [one[2] for one in its if one[0] > (at - size) // tile * tile]
        counts.append(len(amounts))
        sums.append(sum(amounts) if amounts else None)
    return [*counts, *sums, [one[3] for one in its if one[3]][-1]]


def ask(checkout):
    """What the API answers to the guide's lookup."""
    return json.loads(checkout.typed(line("curl ")))


def test_the_plan_is_where_the_guide_says_and_no_server_is_needed(checkout, typed):
    told = typed("headwater plan")
    wrote = re.findall(r"^wrote (.+)$", told, re.MULTILINE)
    assert all(path.startswith(("feature_repo/bank/plan/", "schemas/events/")) for path in wrote)
    assert "schemas/events/bank.payments.v1.json" in wrote
    assert {path.name for path in (checkout.folder / "feature_repo/bank/plan/jobs").iterdir()} == {
        *("bank-payments.sql", "bank-tables.sql", "bank-archive.sql")
    }


def test_the_guides_files_are_formatted_and_keep_the_import_rule(checkout):
    written = [path for path in FILES if path.endswith(".py")]
    ruff = ROOT / "build" / "envs" / "serving" / "bin" / "ruff"
    for what in (("format", "--check"), ("check",)):
        done = subprocess.run(
            [ruff, *what, *written], cwd=checkout.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
    declared = [path for path in written if path.startswith("feature_repo/")]
    assert len(declared) == 2
    assert not any("headwater" in FILES[path] for path in declared)


@pytest.fixture(scope="module")
def served(checkout, typed):
    """The platform, the table, the jobs and the morning's payments, as the guide has them."""
    typed("headwater up")
    typed("psql -f feature_repo/bank/tables.sql")
    typed(line('psql -c "INSERT INTO cards'))
    typed("headwater apply")
    typed("HEADWATER_IDLE_SECONDS=600 headwater jobs submit")
    typed("build/envs/serving/bin/python -m bank.send")
    return checkout


def test_a_lookup_answers_what_the_guide_says_and_what_is_computed_by_hand(served):
    told = json.loads(block("json"))
    assert eventually(lambda: ask(served) == told), ask(served)
    assert told["rows"][0] == [*spending("4711", clock("10:05")), *FACTS["4711"]]


def test_a_training_set_has_what_the_guide_says_and_what_is_computed_by_hand(served, typed):
    train = "build/envs/serving/bin/python -m bank.train"
    assert eventually(lambda: typed(train) == block("csv"), 30), typed(train)
    rows = list(csv.reader(io.StringIO(block("csv"))))[1:]
    for row, when in zip(rows[:3], ("09:40", "10:00", "10:05"), strict=True):
        found = [float(value) for value in row[2:6]], row[6], row[7], float(row[8])
        *numbers, country = spending(row[0], clock(when))
        assert found == (numbers, country, *FACTS[row[0]])


def test_a_later_event_of_each_partition_and_a_changed_row_are_served(served, typed):
    typed("build/envs/serving/bin/python -m bank.send_later")
    typed(line('psql -c "UPDATE'))

    def rows():
        return ask(served)["rows"]

    assert eventually(lambda: rows()[1][:5] == [1, 1, 7.0, 7.0, "GB"]), rows()
    assert eventually(lambda: rows()[0][-1] == 2000.0), rows()
    # Training still has the limit of March.
    assert typed("build/envs/serving/bin/python -m bank.train") == block("csv")


def test_a_history_is_loaded_and_produced_and_moves_the_time_on(served, typed):
    assert "cards: 1 rows inserted" in typed("headwater load")
    assert "2 events in Kafka" in typed(line("headwater produce"))
    # The morning has left the hour: that is told although the cards have no event.
    told = [[0, 3, None, 60.0, "FR"], [0, 2, None, 8.5, "GB"]]
    assert eventually(lambda: [row[:5] for row in ask(served)["rows"]] == told), ask(served)


def test_nothing_is_left_where_one_starts_over_nor_a_line_that_was_not_run(served, typed):
    typed("headwater down")
    typed("rm -r .headwater")
    assert not (served.folder / ".headwater").exists()
    assert not served.left
