"""The charts show the measured figures accessibly."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.benchmarks import charts

SVG = "{http://www.w3.org/2000/svg}"

DOCUMENT: dict[str, Any] = {
    "machine": {"date": "2026-01-02", "commit": "0123456789", "cpus": 2, "python": "3.11.0"},
    "peers": {
        "comparisons": [{"work": "first <load>", "seconds": {"Rollcall": [1.0, 3.0, 2.0], "other": [8.0]}}],
        "outcomes": {
            "Rollcall": {"bad": {"one": {"outcome": "rejected with a reason"}}},
            "other": {"bad": {"one": {"outcome": "whole run failed"}}},
        },
    },
}


def test_a_chart_shows_its_figures_as_bars_and_text_in_light_and_dark(tmp_path: Path) -> None:
    source = tmp_path / "peers.json"
    source.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    assert charts.main([str(source), "--directory", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.glob("*.svg")}
    assert names == {"peers-light.svg", "peers-dark.svg", "bad-files-light.svg", "bad-files-dark.svg"}

    light, dark = (ElementTree.parse(tmp_path / f"peers-{theme}.svg").getroot() for theme in ("light", "dark"))
    labels = {element.get("id"): element.text or "" for element in light if element.get("id")}
    assert light.get("role") == "img"
    assert (light.get("aria-labelledby") or "").split() == list(labels) == ["title", "desc"]
    assert "first <load>: Rollcall 2.00 s (1.00 ×), other 8.00 s (4.00 ×)" in labels["desc"]
    assert "commit 0123456, 2 CPUs" in labels["desc"]
    background, *bars = (element.attrib for element in light.iter(f"{SVG}rect"))
    assert float(bars[1]["width"]) / float(bars[0]["width"]) > 3.9
    assert background["fill"] != next(dark.iter(f"{SVG}rect")).get("fill")
    assert "whole run failed" in (tmp_path / "bad-files-dark.svg").read_text(encoding="utf-8")


def test_the_baselines_chart_shows_the_ratio_and_goal_of_each_row_with_a_baseline() -> None:
    row = {"name": "stream", "ratio": 0.95, "goal": 0.9, "at_least": True, "baseline": [1.0]}
    row_without_baseline = {"name": "sizes", "ratio": 1.0, "goal": 1.05, "at_least": False, "baseline": None}
    [chart] = charts.charts({"machine": DOCUMENT["machine"], "rows": [row, row_without_baseline]}, "query")
    assert [bar.text for group in chart.groups for bar in group.bars] == ["0.95, goal 0.9"]


def test_the_baselines_of_each_file_have_their_own_chart(tmp_path: Path) -> None:
    files = [tmp_path / "process.json", tmp_path / "query.json"]
    for file in files:
        file.write_text(json.dumps({"machine": DOCUMENT["machine"], "rows": []}), encoding="utf-8")
    assert charts.main([*map(str, files), "--directory", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("baselines-*.svg"))) == 4
