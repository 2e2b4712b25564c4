"""Draw the main results in the benchmarks' JSON files: a light and a dark SVG of each chart.

python3 tests/benchmarks charts FILE.json... [--directory DIR]
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

DIRECTORY = Path(__file__).with_name("svg")

WIDTH, LABEL_WIDTH, LINE_HEIGHT, BAR_HEIGHT, MARGIN = 760, 170, 22, 14, 16  # pixels
_VALUE_WIDTH = 170  # pixels for the text beside the longest bar


@dataclass(frozen=True)
class Theme:
    name: str
    background: str
    text: str
    rollcall: str
    other: str


THEMES = (
    Theme("light", "#ffffff", "#1f2328", "#0969da", "#818b98"),
    Theme("dark", "#0d1117", "#f0f6fc", "#4493f8", "#9198a1"),
)


@dataclass(frozen=True)
class Bar:
    """A bar. `is_rollcall` gives it Rollcall's color."""

    label: str
    value: float
    text: str
    is_rollcall: bool = False


@dataclass(frozen=True)
class Group:
    """Bars on one scale, which ends at `min_end` or later."""

    title: str
    bars: Sequence[Bar]
    min_end: float = 0


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    source: str
    groups: Sequence[Group]

    @property
    def description(self) -> str:
        """All values as text, for screen readers."""
        groups = (
            f"{group.title}: " + ", ".join(f"{bar.label} {bar.text}" for bar in group.bars) for group in self.groups
        )
        return ". ".join((*groups, self.source)) + "."

    def draw(self, theme: Theme) -> str:
        y, elements = MARGIN + LINE_HEIGHT, []
        elements.append(_text(MARGIN, y, self.title, theme, "font-size='16' font-weight='bold'"))
        for group in self.groups:
            y += 2 * LINE_HEIGHT
            elements.append(_text(MARGIN, y - 6, group.title, theme, "font-weight='bold'"))
            scale = (WIDTH - LABEL_WIDTH - _VALUE_WIDTH - 2 * MARGIN) / (
                max(group.min_end, *(bar.value for bar in group.bars)) or 1
            )
            for bar in group.bars:
                y += LINE_HEIGHT
                elements += _bar(bar, y, scale, theme)
        y += 2 * LINE_HEIGHT
        elements.append(_text(MARGIN, y - 8, self.source, theme, "font-size='11'"))
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y + 8}' viewBox='0 0 {WIDTH} {y + 8}' "
            "role='img' aria-labelledby='title desc' font-family='system-ui, sans-serif' font-size='13'>\n"
            f"<title id='title'>{escape(self.title)}</title>\n<desc id='desc'>{escape(self.description)}</desc>\n"
            f"<rect width='100%' height='100%' fill='{theme.background}'/>\n" + "\n".join(elements) + "\n</svg>\n"
        )


def _text(x: float, y: float, text: str, theme: Theme, attributes: str = "") -> str:
    return f"<text x='{x:.0f}' y='{y}' fill='{theme.text}' {attributes}>{escape(text)}</text>"


def _bar(bar: Bar, y: int, scale: float, theme: Theme) -> list[str]:
    left, width = MARGIN + LABEL_WIDTH, max(1, scale * bar.value)
    color = theme.rollcall if bar.is_rollcall else theme.other
    return [
        _text(left - 8, y, bar.label, theme, "text-anchor='end'"),
        f"<rect x='{left}' y='{y - BAR_HEIGHT + 2}' width='{width:.1f}' height='{BAR_HEIGHT}' rx='2' fill='{color}'/>",
        _text(left + width + 8, y, bar.text, theme),
    ]


def charts(document: dict[str, Any], name: str) -> list[Chart]:
    """Return the charts for the results in a document. `name` distinguishes charts of the same kind."""
    machine = document["machine"]
    source = f"{machine['date']}, commit {machine['commit'][:7]}, {machine['cpus']} CPUs, Python {machine['python']}"
    if "peers" in document:
        return [_speed(document["peers"], source), _bad_files(document["peers"], source)]
    return [_baselines(document["rows"], source, name)]


def _speed(peers: dict[str, Any], source: str) -> Chart:
    groups = []
    for comparison in peers["comparisons"]:
        medians = {system: statistics.median(values) for system, values in comparison["seconds"].items()}
        rollcall = medians["Rollcall"]
        bars = [
            Bar(system, median, f"{_duration(median)} ({median / rollcall:,.2f} ×)", is_rollcall=system == "Rollcall")
            for system, median in medians.items()
        ]
        groups.append(Group(comparison["work"], bars))
    return Chart("peers", "Rollcall and alternatives: time, lower is better", source, groups)


def _duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:,.1f} ms"


def _bad_files(peers: dict[str, Any], source: str) -> Chart:
    groups = []
    for system, kinds in peers["outcomes"].items():
        counts = Counter(finding["outcome"] for finding in kinds["bad"].values())
        is_rollcall = system == "Rollcall"
        bars = [Bar(outcome, count, str(count), is_rollcall=is_rollcall) for outcome, count in counts.most_common()]
        total = sum(bar.value for bar in bars)
        groups.append(Group(system, bars, total))
    return Chart("bad-files", f"Results for {total:.0f} invalid files", source, groups)


def _baselines(rows: list[dict[str, Any]], source: str, name: str) -> Chart:
    groups = []
    for title, at_least in (
        ("higher is better, the goal is a minimum", True),
        ("lower is better, the goal is a maximum", False),
    ):
        bars = [
            Bar(row["name"], row["ratio"], f"{row['ratio']:.2f}, goal {row['goal']:g}", is_rollcall=True)
            for row in rows
            if row["baseline"] and row["at_least"] == at_least
        ]
        if bars:
            groups.append(Group(f"Rollcall / baseline: {title}", bars))
    return Chart(f"baselines-{name}", "Rollcall against its baselines", source, groups)


def write(chart: Chart, directory: Path) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{chart.name}-{theme.name}.svg" for theme in THEMES]
    for path, theme in zip(paths, THEMES, strict=True):
        path.write_text(chart.draw(theme), encoding="utf-8")
    return paths


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests/benchmarks charts")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.json", help="written by the benchmarks with --json"
    )
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="the directory for the SVGs (%(default)s)")
    options = parser.parse_args(arguments)
    for file in options.files:
        for chart in charts(json.loads(file.read_text(encoding="utf-8")), file.stem):
            print(*write(chart, options.directory), sep="\n")
    return 0
