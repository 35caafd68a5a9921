"""The report as one HTML page: figures, tables and words put into the template."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import vl_convert

from qmp_envs.measures import MEASURES
from qmp_sb3.experiments.report.figure import Columns, Figure
from qmp_sb3.experiments.report.palette import DARK, FONT, LIGHT, Style, css, vega_config
from qmp_sb3.experiments.report.rerun import Recipe
from qmp_sb3.experiments.report.tables import Table
from qmp_sb3.experiments.runs.provenance import versions


@dataclass(frozen=True)
class Block:
    """A part of a task set's section.

    :param figures: below each other; of the learning curves by measure, of which one is shown
    :param notes: what is missing here, and why
    """

    name: str
    title: str
    figures: Sequence[Figure] | Mapping[str, Sequence[Figure]] = ()
    table: Table | None = None
    notes: Sequence[str] = ()

    @property
    def measures(self) -> list[tuple[str, str, str]]:
        """Name in the results, name and meaning of the measures to choose from."""
        names = self.figures if isinstance(self.figures, Mapping) else ()
        return [(measure, MEASURES[measure].label, MEASURES[measure].meaning) for measure in names]

    @property
    def every_figure(self) -> list[Figure]:
        several = self.figures.values() if isinstance(self.figures, Mapping) else [self.figures]
        return [figure for figures in several for figure in figures]


@dataclass(frozen=True)
class Group:
    """The section of a task set; ``end`` is the last step of its learning curves."""

    id: str
    slug: str
    lead: str
    end: int
    methods: Sequence[str]
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Published:
    """The section that puts ours beside the numbers of a paper."""

    title: str
    about: Sequence[str]
    tables: Sequence[Table]


@dataclass(frozen=True)
class Page:
    """All of a report, in the order in which it is read.

    :param facts: what the runs of each task set are
    """

    title: str
    lead: str
    facts: Sequence[str]
    groups: Sequence[Group]
    costs: Table
    recipes: Mapping[str, Sequence[Recipe]]
    notes: Sequence[str]
    styles: Mapping[str, Style] = field(default_factory=dict)
    published: Published | None = None


NAMES = ("title", "lead", "facts", "groups", "costs", "recipes", "notes", "published")
"""What the template takes from the page as it is."""


def html(page: Page) -> str:
    """The page as one file that loads nothing from anywhere, and whose policy forbids it to."""
    library, script = _safe_script(_library()), _safe_script(_file("report.js"))
    return _template().render(
        **{name: getattr(page, name) for name in NAMES},
        version=versions()["qmp-suite"],
        colors={method: style.color for method, style in page.styles.items()},
        policy=_policy(library, script),
        style=jinja2.utils.markupsafe.Markup(_style()),
        data=jinja2.utils.markupsafe.Markup(_data(page)),
        library=jinja2.utils.markupsafe.Markup(library),
        script=jinja2.utils.markupsafe.Markup(script),
    )


def _data(page: Page) -> str:
    """Everything that the charts are drawn of, as JSON that cannot end its script element."""
    figures = [figure for group in page.groups for block in group.blocks for figure in block.every_figure]
    content: dict[str, Any] = {
        "config": vega_config(),
        "figures": {
            figure.name: {
                "spec": figure.specification(),
                "panels": [encoded(panel.columns) for panel in figure.panels],
                "titles": [panel.title for panel in figure.panels],
                "headings": figure.headings,
                "settings": dict(figure.settings) | {"media": _without_films(figure)},
            }
            for figure in figures
        },
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _without_films(figure: Figure) -> list[dict[str, Any]] | None:
    """The films stand in the page itself."""
    media = figure.settings.get("media")
    return media and [{key: value for key, value in one.items() if key != "film"} for one in media]


def encoded(columns: Columns) -> dict[str, Any]:
    """Columns with each different text written once: ``{"names": [...], "of": [index of each row]}``."""
    found: dict[str, Any] = {}
    for name, values in columns.items():
        if any(isinstance(value, str) for value in values):
            names = {value: code for code, value in enumerate(dict.fromkeys(v for v in values if v is not None))}
            found[name] = {"names": list(names), "of": [None if v is None else names[v] for v in values]}
        else:
            found[name] = list(values)
    return found


def _policy(*scripts: str) -> str:
    """A content security policy: nothing is loaded, and no script runs but these."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _safe_script(text: str) -> str:
    """A script that an HTML parser reads to its end; browsers hash it with line breaks of one kind."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("\r\n", "\n").replace("\r", "\n")


def _style() -> str:
    return _file("style.css").replace("LIGHT", css(LIGHT)).replace("DARK", css(DARK)).replace("FONT", FONT)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_file("page.html"))


def _file(name: str) -> str:
    return resources.files("qmp_sb3.experiments.report").joinpath("page", name).read_text(encoding="utf-8")
