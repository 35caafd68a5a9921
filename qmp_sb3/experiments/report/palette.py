"""Colors of the report and of its pictures: one color for a method in every chart, told apart without color vision.

Charts name colors as CSS variables, ``var(--method-0)``; the page gives them values for light and dark, pictures have
:data:`LIGHT` put in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INK = "var(--ink)"
QUIET = "var(--quiet)"
LINE = "var(--line)"
PAPER = "var(--paper)"

METHODS_LIGHT = ("#0b64b0", "#c8500a", "#00795a", "#a93f86", "#8a6500", "#2488b5", "#5b5b66", "#7d3c0f")
METHODS_DARK = ("#5aaef2", "#ff8f52", "#35c79c", "#ea93c8", "#e3b341", "#8fd6f7", "#b9b9c4", "#d79a6d")
"""Blue, vermilion, green, purple, ochre, sky, gray, brown: after Okabe and Ito's set, darkened or lightened until
each has a contrast of 3:1 with the page."""
TASKS_LIGHT = (
    "#332288",
    "#b5364a",
    "#117733",
    "#996515",
    "#2a7f9e",
    "#882255",
    "#6f7a1f",
    "#8f4fa8",
    "#44756b",
    "#7a4a2b",
)
TASKS_DARK = (
    "#a79bf0",
    "#f0808f",
    "#5fce83",
    "#e8c268",
    "#88ccee",
    "#e58ab5",
    "#ccd46a",
    "#d3a3e8",
    "#8ed1c2",
    "#d6a98a",
)
"""After Tol's muted set."""

LIGHT = {"ink": "#1c1e26", "quiet": "#5a5f6e", "line": "#dcdfe6", "paper": "#ffffff", "accent": "#0b64b0"}
DARK = {"ink": "#e9ebf1", "quiet": "#a3a9b8", "line": "#363b48", "paper": "#15171d", "accent": "#5aaef2"}
LIGHT |= {f"method-{i}": color for i, color in enumerate(METHODS_LIGHT)}
LIGHT |= {f"task-{i}": color for i, color in enumerate(TASKS_LIGHT)}
DARK |= {f"method-{i}": color for i, color in enumerate(METHODS_DARK)}
DARK |= {f"task-{i}": color for i, color in enumerate(TASKS_DARK)}

DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
"""Where there are more methods than colors, the next round of them is dashed."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    color: str
    dash: tuple[int, ...]


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """One style for each method; colors begin anew after the last, with another dash pattern."""
    rounds = [divmod(number, len(METHODS_LIGHT)) for number in range(len(methods))]
    return {
        method: Style(f"var(--method-{color})", DASHES[turn % len(DASHES)])
        for method, (turn, color) in zip(methods, rounds, strict=True)
    }


def task_colors(tasks: Sequence[str]) -> list[str]:
    """One color for each task or candidate policy, in order; they begin anew after the last."""
    return [f"var(--task-{number % len(TASKS_LIGHT)})" for number in range(len(tasks))]


def css(colors: Mapping[str, str]) -> str:
    """The declarations of a palette."""
    return " ".join(f"--{name}: {value};" for name, value in colors.items())


def with_colors(chart: Mapping[str, Any], colors: Mapping[str, str] = LIGHT) -> dict[str, Any]:
    """A chart with the values of a palette in place of its variables, for pictures."""
    return json.loads(re.sub(r"var\(--([a-z0-9-]+)\)", lambda found: colors[found[1]], json.dumps(chart)))


def vega_config() -> dict[str, Any]:
    """What all charts have in common."""
    axis = {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "titleFontWeight": "normal",
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titlePadding": 8,
        "labelFont": FONT,
        "titleFont": FONT,
        "labelLimit": 150,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    }
    legend = {"labelColor": INK, "titleColor": QUIET, "labelFont": FONT, "titleFont": FONT, "titleFontWeight": "normal"}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False},
        "legend": {**legend, "labelLimit": 260, "labelFontSize": 11},
        "header": {"labelColor": INK, "titleColor": INK, "labelFont": FONT},
        "title": {"color": INK, "font": FONT, "fontSize": 12, "fontWeight": 600, "anchor": "start"},
        # A screen reader hears the description of a chart and finds its numbers in the table below.
        "aria": False,
    }
