"""`headwater-json` beside Flink's own JSON format: the same topic, the same columns, to nowhere.

    python -m bench.formats [--copies 10] [--rounds 3]

`as_used` is the source as the jobs have it, with the columns that dead letters need. Every ratio is
of runs in the same cluster, one after the other; the first run of each kind is thrown away.
"""

from __future__ import annotations

import argparse
import re
import statistics

from bench.engine import parse, script
from bench.flights import bench, departures, fill, seconds
from bench.report import publish
from schemas import EventStream

_GOALS = {"vs_flink": "≥ 1", "as_used_vs_flink": "≥ 1"}
_BOUND = {"scan.bounded.mode": "latest-offset"}


def flinks(text: str) -> str:
    """The same script with Flink's JSON format."""
    text = _bare(text)
    text = re.sub(r",\n  'headwater-json\.[^']+' = '[^']*'", "", text)
    return text.replace("'format' = 'headwater-json'", "'format' = 'json'")


def _bare(text: str) -> str:
    """Without the columns that tell of dead letters; a bad record would fail the job."""
    return re.sub(r"  `(?:dead_|kafka_)\w+` [^\n]* METADATA [^\n]*\n", "", text)


def main() -> None:
    """Run everything and publish it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--copies", type=int, default=10, help="of each departure")
    options.add_argument("--rounds", type=int, default=3, help="measured, after one that is not")
    given = options.parse_args()
    with bench("postgres", "kafka", "flink", "taskmanager") as platform:
        job = platform.jobs.known["flights-departures"]
        stream = job.sources[0]
        assert isinstance(stream, EventStream)
        there = fill(
            platform.settings,
            stream,
            "bench.departures",
            lambda: departures(platform.settings, given.copies),
        )
        rows = sum(1 for _ in departures(platform.settings, given.copies))
        rates: dict[str, list[float]] = {"flink": [], "ours": [], "as_used": []}
        for number in range(given.rounds + 1):
            for kind, found in rates.items():
                sql = script(f"bench-{kind}", there, _BOUND, parse(job.views, there))
                if kind != "as_used":
                    sql = flinks(sql) if kind == "flink" else _bare(sql)
                done = platform.finish(f"bench-{kind}", sql, 300)
                rate = rows / seconds(done) if done else 0.0
                print(f"{kind:<10} {rows:>10,} rows {rate:>12,.0f}/s", flush=True)
                if number:
                    found.append(rate)
    pairs = list(zip(rates["flink"], rates["ours"], rates["as_used"], strict=True))
    publish(
        "formats",
        {
            "flink_rows_per_second": statistics.median(rates["flink"]),
            "rows_per_second": statistics.median(rates["ours"]),
            "as_used_rows_per_second": statistics.median(rates["as_used"]),
            "vs_flink": statistics.median(ours / flink for flink, ours, _ in pairs),
            "as_used_vs_flink": statistics.median(used / flink for flink, _, used in pairs),
        },
        _GOALS,
        rates,
    )


if __name__ == "__main__":
    main()
