"""A figure: one chart drawn of several panels' numbers, with its words; the page and the pictures are made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from qmp_sb3.experiments.report.palette import Style

ROWS = "rows"
"""The name by which charts call the numbers that they are drawn of."""
LEGEND = alt.Legend(title=None, orient="top", columns=3, symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1)
"""Of pictures; the page has boxes to tick in its place."""
Chart = alt.LayerChart | alt.FacetChart
"""What layers become."""
Columns = Mapping[str, Sequence[Any]]
"""Numbers of a panel: name -> values, all of one length; None where there is none."""


@dataclass(frozen=True)
class Panel:
    """One view of a figure.

    :param title: what it shows, e.g. a task's name
    :param columns: the numbers that it is drawn of
    :param description: for readers who do not see it
    """

    title: str
    columns: Columns
    description: str


@dataclass(frozen=True)
class Figure:
    """Panels that are drawn alike.

    :param name: of one word, for links and file names
    :param title: heading
    :param caption: what is shown, of how many runs, what the band is
    :param chart: drawn of the named data :data:`ROWS`; its width is left open
    :param panels: at least one
    :param headings: column -> its heading in the table below the figure; the other columns are left out there
    :param kind: ``wide`` (one panel over the whole width), ``grid`` (small panels side by side), ``matrix`` (square)
    :param height: of a panel, pixels
    :param controls: name of the controls that the page puts above the panels
    :param settings: what these need, and the chart's parameters where they begin
    """

    name: str
    title: str
    caption: str
    chart: Chart
    panels: tuple[Panel, ...]
    headings: Mapping[str, str]
    kind: str = "wide"
    controls: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def specification(self) -> dict[str, Any]:
        """The chart as Vega-Lite, without numbers and without settings that the page and the pictures share."""
        chart = self.chart.to_dict()
        chart.pop("config", None)
        return chart


def rows(columns: Columns) -> list[dict[str, Any]]:
    """The same numbers as one dictionary for each row."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def data() -> alt.NamedData:
    """The numbers of a panel, in a chart."""
    return alt.NamedData(name=ROWS)


ALONE = "datum.points === 1"
"""Of :func:`line_ends`: the row is the only one of its line, which draws nothing then."""


def line_ends(chart: alt.Chart, value: str, line: Sequence[str]) -> alt.Chart:
    """The last row of each line over steps, with the number of its rows in ``points``.

    Those that are not :data:`ALONE` are to be drawn invisibly: without any row, Vega warns that a scale has no ends.

    :param value: the column that is drawn; rows without it do not count
    :param line: the columns that all rows of a line have in common
    """
    known = chart.transform_filter(f"isValid(datum.{value})")
    counted = known.transform_joinaggregate(points="count()", latest="max(step)", groupby=list(line))
    return counted.transform_filter("datum.step === datum.latest")


def method_scales(styles: Mapping[str, Style]) -> tuple[alt.Color, alt.StrokeDash]:
    """Color and dashes by the column ``method``."""
    methods = list(styles)
    color = alt.Color("method:N", legend=LEGEND).scale(domain=methods, range=[style.color for style in styles.values()])
    dash = alt.StrokeDash("method:N", legend=None).scale(
        domain=methods, range=[style.dash for style in styles.values()]
    )
    return color, dash


def plain(number: float) -> float | None:
    """A number as the page keeps it, with four digits; None for NaN."""
    return None if math.isnan(number) else float(f"{number:.4g}")


def columns_of(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """The inverse of :func:`rows`, with the columns ``names`` even where there are no rows."""
    return {name: [record[name] for record in records] for name in names}
