"""Definitions of tables and figures, the papers' and ours, as YAML: found, read and checked.

They are in ``benchmarks/paper`` of a checkout, and travel with the package as ``qmp_sb3/definitions``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qmp_envs.registry import entry
from qmp_envs.suggestions import did_you_mean
from qmp_sb3.common.validation import one_of, whole_number
from qmp_sb3.experiments.benchmarks.benchmark import MEASURES, MOMENTS, UNITS, Arm, Benchmark, Part, Published
from qmp_sb3.experiments.benchmarks.scales import SCALES
from qmp_sb3.methods import presets
from qmp_sb3.serialization import UntrustedFile


def folder() -> Path:
    """Where the definitions are: the checkout's, or the package's own copy."""
    package = Path(__file__).resolve().parents[2]
    checkout = package.parent / "benchmarks" / "paper"
    return checkout if any(checkout.glob("*.yaml")) else package / "definitions"


def available() -> tuple[str, ...]:
    """The names of all definitions that come with the suite."""
    return tuple(sorted(file.stem for file in folder().glob("*.yaml")))


def read(name: str, trust: bool = False) -> Benchmark:
    """A definition by its name, or from a file that ends in ``.yaml``.

    :param trust: the file may name a module to import before the id of a task set
    :raises ValueError: if there is none, naming the closest one, or if it is not usable
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = folder() / f"{one_of('benchmark', name, available())}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return from_dict(path.stem, values, trust)


def from_dict(name: str, values: Mapping[str, Any], trust: bool = False) -> Benchmark:
    """A definition from what its file says.

    :param name: of the file, for messages too
    :raises ValueError: naming the place, what stands there, and the closest that is allowed
    """
    required = ("title", "source", "about", "measure", "methods", "task_sets", "seeds", "episodes")
    optional = ("published", "claims", "missing", "preset", "evaluations", "moment", "per_task", "unit", "scales")
    _keys(name, values, required, optional)
    for label, given in values["task_sets"].items():
        if not trust and isinstance(given, Mapping) and ":" in str(given.get("id")):
            raise UntrustedFile(
                f"{name}: task_sets: {label}: id is {given['id']!r}, and to import its module runs code; say "
                "trust=True (on the command line --trust) if you trust where the file and that module come from"
            )
    arms = {key: _arm(f"{name}: methods: {key}", key, given or {}) for key, given in values["methods"].items()}
    parts = tuple(
        _part(f"{name}: task_sets: {label}", label, given, values, arms) for label, given in values["task_sets"].items()
    )
    for part in parts:
        if part.published and "published" not in values:
            raise ValueError(f"{name}: 'published' is missing: where do the numbers of {part.label} stand?")
    limits = values.get("scales", {})
    for scale_name, limit in limits.items():
        _one(f"{name}: scales", scale_name, SCALES)
        _keys(f"{name}: scales: {scale_name}", limit, (), ("seeds", "episodes", "evaluations"))
    preset = values.get("preset", "official")
    for part in parts:
        for arm in arms.values():
            _preset(f"{name}: preset", arm, part.id, preset)
    return Benchmark(
        name=name,
        title=values["title"],
        source=values["source"],
        about=" ".join(values["about"].split()),
        published=values.get("published"),
        claims=tuple(values.get("claims", ())),
        missing=tuple(values.get("missing", ())),
        preset=preset,
        seeds=whole_number(f"{name}: seeds", values["seeds"], 1),
        episodes=whole_number(f"{name}: episodes", values["episodes"], 1),
        evaluations=values.get("evaluations"),
        moment=_one(f"{name}: moment", values.get("moment", "end"), MOMENTS),
        per_task=bool(values.get("per_task", False)),
        arms=arms,
        parts=parts,
        limits=limits,
    )


def _arm(place: str, name: str, given: Mapping[str, Any]) -> Arm:
    _keys(place, given, (), ("label", "method", "settings"))
    method, settings = given.get("method", name), given.get("settings", {})
    _checked(place, presets.method, method)
    _checked(place, presets.check_overrides, settings)
    return Arm(name, given.get("label", name), method, settings)


def _part(place: str, label: str, given: Mapping[str, Any], top: Mapping[str, Any], arms: Mapping[str, Arm]) -> Part:
    optional = ("laptop_steps", "options", "only", "settings", "measure", "unit", "published")
    _keys(place, given, ("id", "steps"), optional)
    _checked(place, entry, given["id"])
    only, settings, published = given.get("only", list(arms)), given.get("settings", {}), given.get("published", {})
    for arm in (*only, *settings, *published):
        _one(f"{place}: method", arm, arms)
    for overrides in settings.values():
        _checked(place, presets.check_overrides, overrides)
    laptop = given.get("laptop_steps")
    return Part(
        label,
        given["id"],
        whole_number(f"{place}: steps", given["steps"], 1),
        None if laptop is None else whole_number(f"{place}: laptop_steps", laptop, 1),
        given.get("options", {}),
        tuple(arm for arm in arms if arm in only),
        settings,
        _one(f"{place}: measure", given.get("measure", top["measure"]), MEASURES),
        _one(f"{place}: unit", given.get("unit", top.get("unit", "percent")), UNITS),
        {arm: _number(f"{place}: published: {arm}", value) for arm, value in published.items()},
    )


def _number(place: str, value: Any) -> Published:
    """``80``, or ``[80, 2.5]`` with what stands behind the +-."""
    numbers = value if isinstance(value, list) else [value]
    if not 1 <= len(numbers) <= 2 or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise ValueError(f"{place}: {value!r} is not a published number; give 80, or [80, 2.5] with its spread")
    return Published(*map(float, numbers))


def _keys(place: str, values: Any, required: Sequence[str], optional: Sequence[str]) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{place}: expected settings by name, got {values!r}")
    for key in values:
        if key not in (*required, *optional):
            raise ValueError(f"{place}: unknown key {key!r}; {did_you_mean(key, [*required, *optional])}")
    for key in required:
        if key not in values:
            raise ValueError(f"{place}: {key!r} is missing")


def _one(place: str, value: str, known: Iterable[str]) -> str:
    return _checked(place.rpartition(": ")[0], one_of, place.rpartition(": ")[2], value, known)


def _checked(place: str, check: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return check(*arguments)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _preset(place: str, arm: Arm, id: str, preset: str) -> None:
    _checked(place, presets.sources, arm.method, id, preset)
