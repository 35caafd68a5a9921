"""The report's figures as files, for papers and slides: ``qmp plot``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from qmp_envs.atomic_files import replace
from qmp_sb3.common.validation import one_of
from qmp_sb3.experiments.report import sources
from qmp_sb3.experiments.report.figure import ROWS, Figure, rows
from qmp_sb3.experiments.report.palette import LIGHT, vega_config, with_colors
from qmp_sb3.experiments.report.write import all_figures

FORMATS = ("png", "pdf", "svg")
WIDTHS = {"wide": 620, "grid": 210, "matrix": None, "episode": 420}
"""Width of a panel by the kind of figure, pixels of a 96 dpi screen; None: as wide as its cells."""
COLUMNS = {"wide": 1, "grid": 5, "matrix": 3, "episode": 1}
"""Panels side by side, at most."""
SCALE = 2
"""Pixels of a PNG per pixel of a screen."""


def write_figures(
    runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], form: str = "png", figure: str | None = None
) -> list[Path]:
    """Write figures of some runs as one file each.

    :param runs: run directories, folders of them, and results files
    :param out: folder of the files
    :param form: ``png``, ``pdf`` or ``svg``
    :param figure: name of one figure, or the end of several figures' names, e.g. ``success_any``; None for all
    :return: the files
    :raises FileNotFoundError: for a path without results
    :raises ValueError: for a damaged file, an unknown format or figure
    """
    out, form = Path(out), one_of("format", form, FORMATS)
    chosen = all_figures(sources.read(map(Path, runs)))
    if figure is not None:
        names = [one.name for one in chosen]
        matching = [one for one in chosen if one.name == figure or one.name.endswith(f"-{figure}")]
        chosen = matching or [one for one in chosen if one.name == one_of("figure", figure, names)]
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for one in chosen:
        content = image(one, form)
        files.append(out / f"{one.name}.{form}")
        replace(files[-1], lambda part, content=content: part.write_bytes(content))  # type: ignore[misc]
    return files


def image(figure: Figure, form: str) -> bytes:
    """A figure as the content of a file."""
    chart, config = whole(figure), {**with_colors(vega_config()), "background": LIGHT["paper"]}
    if form == "png":
        return vl_convert.vegalite_to_png(chart, scale=SCALE, config=config)
    if form == "pdf":
        return vl_convert.vegalite_to_pdf(chart, config=config)
    return vl_convert.vegalite_to_svg(chart, config=config).encode()


def whole(figure: Figure) -> dict[str, Any]:
    """All panels of a figure as one chart of its own, with its legend, in the colors of a page of paper."""
    specification = figure.specification()
    width = WIDTHS[figure.kind]
    parameters = [one for one in specification.pop("params", []) if "select" not in one]
    for one in parameters:
        one["value"] = figure.settings.get(one["name"], one["value"])
    size = {} if width is None else {"width": width}
    panels = [
        {**_with_rows(specification, f"panel {number}"), "title": panel.title, **size}
        for number, panel in enumerate(figure.panels)
    ]
    if len(panels) == 1 and figure.kind == "wide":
        panels[0].pop("title")
    chart = {
        "concat": panels,
        "columns": COLUMNS[figure.kind],
        "datasets": {f"panel {number}": rows(panel.columns) for number, panel in enumerate(figure.panels)},
        "params": parameters,
        "title": {"text": figure.settings.get("in_pictures", figure.title), "fontSize": 14, "offset": 12},
        "spacing": 24,
        "padding": 12,
    }
    return with_colors(chart)


def _with_rows(chart: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The chart, drawn of the rows of this name."""
    return json.loads(json.dumps(chart).replace(json.dumps({"name": ROWS}), json.dumps({"name": name})))
