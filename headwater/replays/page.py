"""A verification as one page of HTML with its plots in it: nothing else is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from headwater.replays.journal import Replay
from headwater.replays.reports import FeatureReport, Slice, Thresholds, ViewReport

_COLOURS = {"equal": "#7fb77e", "changed": "#d9822b", "missing": "#b23a48", "extra": "#5b6c9e"}
_WIDTH, _HEIGHT = 720, 120
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
svg text { font: 11px system-ui, sans-serif; fill: #555; } .ok { color: #2c7a2b; }
.bad { color: #b23a48; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; }
svg text { fill: #aaa; } h2 { border-color: #444; } .ok { color: #7fb77e; } }
"""


def page(replay: Replay, reports: Mapping[str, ViewReport], allowed: Thresholds) -> str:
    """The page of a replay's verification."""
    end = "now" if replay.end is None else Replay.iso(replay.end)
    sections = "".join(_view(name, found, allowed) for name, found in reports.items())
    legend = " ".join(
        f'<span style="color:{colour}">■</span> {name}' for name, colour in _COLOURS.items()
    )
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f"<title>Replay {escape(replay.id)}</title><style>{_STYLE}</style>\n"
        f"<h1>Replay {escape(replay.id)} beside live</h1>\n"
        f"<p>{escape(Replay.iso(replay.start))} to {escape(end)}. {legend}</p>\n"
        f"{sections}</html>\n"
    )


def _view(name: str, found: ViewReport, allowed: Thresholds) -> str:
    good = found.compared and found.within(allowed)
    told = found.told + (", as allowed" if good and not found.equal else "")
    rows = "".join(
        f'<tr><td>{escape(feature)}</td><td class="n">{report.equal:,}</td>'
        f'<td class="n">{report.changed:,}</td><td>{_bar(report)}</td></tr>\n'
        for feature, report in found.features.items()
    )
    until = f", compared up to {escape(found.until)}" if found.until else ""
    changed = {f: report for f, report in found.features.items() if report.changed}
    return (
        f"<h2>{escape(name)}: <span class='{'ok' if good else 'bad'}'>{told}</span></h2>\n"
        f"<p>{found.live:,} rows live, {found.replayed:,} replayed, {found.missing:,} missing,"
        f" {found.extra:,} extra{until}.</p>\n{_timeline(found.timeline)}\n"
        f"<table><tr><th>feature</th><th>equal</th><th>changed</th><th></th></tr>\n{rows}</table>\n"
        + "".join(_differences(feature, report) for feature, report in changed.items())
    )


def _bar(report: FeatureReport) -> str:
    total = max(report.equal + report.changed, 1)
    equal = 200 * report.equal / total
    return (
        '<svg width="200" height="10" role="img" aria-label="share that is equal">'
        f'<rect width="{equal:.1f}" height="10" fill="{_COLOURS["equal"]}"/>'
        f'<rect x="{equal:.1f}" width="{200 - equal:.1f}" height="10"'
        f' fill="{_COLOURS["changed"]}"/></svg>'
    )


def _timeline(slices: Sequence[Slice]) -> str:
    """Rows over event time, a column a slice."""
    if not slices:
        return "<p>No rows.</p>"
    highest = max(s.equal + s.changed + s.missing + s.extra for s in slices)
    width = _WIDTH / len(slices)
    parts = []
    for number, one in enumerate(slices):
        top = float(_HEIGHT)
        counts = {kind: getattr(one, kind) for kind in _COLOURS}
        title = f"{one.start}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
        for kind, count in counts.items():
            height = _HEIGHT * count / highest
            top -= height
            if count:
                parts.append(
                    f'<rect x="{number * width:.1f}" y="{top:.1f}" width="{width * 0.9:.1f}"'
                    f' height="{height:.1f}" fill="{_COLOURS[kind]}">'
                    f"<title>{escape(title)}</title></rect>"
                )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 18}" role="img" aria-label="rows over time">'
        f"{''.join(parts)}"
        f'<text x="0" y="{_HEIGHT + 14}">{escape(slices[0].start[:16])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">'
        f"{escape(slices[-1].start[:16])}</text></svg>"
    )


def _differences(feature: str, report: FeatureReport) -> str:
    rows = "".join(
        f"<tr><td>{escape(', '.join(f'{k}={v}' for k, v in one.keys.items()))}</td>"
        f"<td>{escape(one.event_time)}</td><td>{escape(repr(one.live))}</td>"
        f"<td>{escape(repr(one.replayed))}</td></tr>\n"
        for one in report.largest
    )
    return (
        f"<h3>{escape(feature)}</h3>\n{_histogram(report.sizes)}\n"
        "<table><tr><th>largest</th><th>at</th><th>live</th><th>replayed</th></tr>\n"
        f"{rows}</table>\n"
    )


def _histogram(sizes: Mapping[int, int]) -> str:
    """How many values differ by how much."""
    if not sizes:
        return ""
    powers = range(min(sizes), max(sizes) + 1)
    width, highest = min(60.0, _WIDTH / len(powers)), max(sizes.values())
    parts = []
    for place, power in enumerate(powers):
        count = sizes.get(power, 0)
        height = 80 * count / highest
        middle = (place + 0.5) * width
        parts.append(
            f'<rect x="{place * width:.1f}" y="{80 - height:.1f}" width="{width * 0.9:.1f}"'
            f' height="{height:.1f}" fill="{_COLOURS["changed"]}">'
            f"<title>{count:,} values differ by 1e{power} to 1e{power + 1}</title></rect>"
            f'<text x="{middle:.1f}" y="94" text-anchor="middle">1e{power}</text>'
        )
    return (
        f'<svg width="{len(powers) * width:.0f}" height="98" role="img"'
        f' aria-label="sizes of differences">{"".join(parts)}</svg>'
    )
