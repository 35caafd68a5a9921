"""What the pages of the methods show of the code: their parts, their hyper-parameters, what they can be used for.

Where a table says yes or no, a small model was built to find out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import qmp_envs
from qmp_sb3 import presets
from qmp_sb3.algorithms.sac import MultiTaskSAC
from qmp_sb3.behaviors import parse_behavior
from qmp_sb3.common.expressions import component
from qmp_sb3.hooks import HOOKS
from qmp_sb3.networks import NETWORKS
from qmp_sb3.objectives import GRADIENTS, TASK_WEIGHTS
from qmp_sb3.objectives.regularizers import REGULARIZERS
from qmp_sb3.replay import ALLOCATIONS, DRAWS
from qmp_sb3.replay.sharing import SHARING
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env

PROBE = "QMP/MultistageReacher-v0"
"""The id that combinations are tried on: it names its subgoals and can reward any task's transitions."""
_TINY: dict[str, Any] = {"policy_kwargs": {"net_arch": [2]}, "buffer_size": 20, "device": "cpu"}


# ---- parts ----


def _actor(networks: str | Mapping[str, str]) -> str:
    return networks if isinstance(networks, str) else networks["actor"]


def _critic(networks: str | Mapping[str, str]) -> str:
    return networks if isinstance(networks, str) else networks["critic"]


#: column -> (constructor's argument, the question it answers, how its value reads)
PARTS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "actor": ("networks", "which parameters does task i see?", _actor),
    "critic": ("networks", "the same, of the action values", _critic),
    "behavior": ("behavior", "whose policy acts now?", str),
    "replay": ("replay", "which transitions, how many of each task?", str),
    "draw": ("draw", "which of a task's transitions?", str),
    "sharing": ("sharing", "is the batch changed before use?", str),
    "regularizer": ("regularizer", "what is added to the actors' loss?", str),
    "task weights": ("task_weights", "how much does each task's loss count?", str),
    "gradients": ("gradients", "how do the tasks' gradients become one?", str),
    "temperatures": ("temperatures", "one for each task, or one for all?", str),
    "hooks": ("hooks", "what else happens between updates?", ", ".join),
}

#: argument -> its words
WORDS: dict[str, Mapping[str, Any]] = {
    "networks": NETWORKS,
    "replay": ALLOCATIONS,
    "draw": DRAWS,
    "sharing": SHARING,
    "regularizer": REGULARIZERS,
    "task_weights": TASK_WEIGHTS,
    "gradients": GRADIENTS,
    "hooks": HOOKS,
}


def _parts(row: presets.Method) -> dict[str, str]:
    """Column -> value as the constructor takes it; an empty text where there is none."""
    arguments = {name: one.default for name, one in inspect.signature(MultiTaskSAC).parameters.items()}
    arguments |= {"behavior": MultiTaskSAC.default_behavior, **row.arguments}
    read = {column: show(arguments[name]) for column, (name, _, show) in PARTS.items() if arguments[name] is not None}
    return {column: read.get(column, "") for column in PARTS}


def method_table() -> list[tuple[str, ...]]:
    """The master table: heading, then one row per method; what is as for ``no-sharing`` is a dot."""
    core = _parts(presets.method("no-sharing"))
    lines = [("method", *PARTS)]
    for name, row in presets.methods().items():
        values = _parts(row)
        shown = [
            _code(value) if name == "no-sharing" or value != core[column] else "·" for column, value in values.items()
        ]
        lines.append((f"[`{name}`]({row.page}.md)", *shown))
    return lines


def parts(*names: str) -> list[tuple[str, ...]]:
    """One row per part with the value of each of the methods, in bold where it is not that of ``no-sharing``."""
    core, values = _parts(presets.method("no-sharing")), [_parts(presets.method(name)) for name in names]
    lines = [("part", "question", *(f"`{name}`" for name in names), "code of what is new")]
    for column, (argument, question, _) in PARTS.items():
        new = [one[column] for one in values if one[column] != core[column]]
        modules = dict.fromkeys(f"`{module}`" for value in new for module in _modules(argument, value))
        shown = [f"**{_code(one[column])}**" if one[column] in new else _code(one[column]) for one in values]
        lines.append((column, question, *shown, ", ".join(modules)))
    return lines


def _code(value: str) -> str:
    return f"`{value}`" if value else "none"


def _modules(argument: str, value: str) -> list[str]:
    """The modules of what a part's value names, inner ones too."""
    if argument == "behavior":
        behavior: Any = parse_behavior(value)
        found = []
        while behavior is not None:
            found.append(type(behavior).__module__)
            behavior = getattr(behavior, "inner", getattr(behavior, "score", None))
        return found
    words = WORDS.get(argument, {})
    named = [word for word in re.findall(r"[a-z]\w*", value) if word in words]
    return [words[word].__module__ for word in named] or [MultiTaskSAC.__module__]


# ---- hyper-parameters ----


def parameters(*names: str) -> list[tuple[str, ...]]:
    """What the methods' files set, with sources; one row for several task sets and presets where all is the same."""
    everywhere = [(id, preset) for id, of_id in presets.sets_with_values().items() for preset in of_id]
    lines: list[tuple[str, ...]] = [("method", "argument", "value", "where", "source")]
    for name in names:
        base = presets.base(name)
        places: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for id, preset in everywhere:
            for argument, (value, source) in presets.own_values(name, id, preset, inherit=False).items():
                places.setdefault((argument, _plain(value), source), []).append((id, preset))
        for (argument, value, source), found in sorted(places.items(), key=lambda one: one[0][0]):
            where = "every task set" if found == everywhere else _places(found)
            lines.append((f"`{name}`", f"`{argument}`", f"`{value}`", where, source))
        if base is not None or not places:
            others = base or "no-sharing"
            lines.append(
                (
                    f"`{name}`",
                    "all others" if places else "all",
                    "",
                    "every task set",
                    f"those of [`{others}`]({others}.md)",
                )
            )
    return lines


def steps() -> list[tuple[str, ...]]:
    """Environment steps of a run unless told otherwise, all tasks together."""
    values = [(f"`{id}`", f"{presets.default_steps(id):,}") for id in presets.sets_with_values()]
    return [("task set", "steps unless `--steps` says otherwise"), *values]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def _places(found: Iterable[tuple[str, str]]) -> str:
    """``Maze, Reacher: fast, paper; Kitchen: official``"""
    by_id: dict[str, list[str]] = {}
    for id, preset in found:
        by_id.setdefault(id.removeprefix("QMP/").removesuffix("-v0"), []).append(preset)
    by_presets: dict[str, list[str]] = {}
    for id, names in by_id.items():
        by_presets.setdefault(", ".join(names), []).append(id)
    return "; ".join(f"{', '.join(ids)}: {names}" for names, ids in by_presets.items())


# ---- Can I use? ----


def can_i_use(*names: str) -> list[tuple[str, ...]]:
    """One row per question, one column per method."""
    answers = [_answers(name) for name in names]
    rows = [(question, *(one[question] for one in answers)) for question in answers[0]]
    return [("Can I use ...", *(f"`{name}`" for name in names)), *rows]


@cache
def _answers(name: str) -> dict[str, str]:
    row = presets.method(name)
    others = [other for other in presets.methods() if other not in (name, "no-sharing")]
    fitting = [other for other in others if not _unsupported(_built, f"{name}+{other}")]
    behaviors = [other for other in others if _is_behavior(other)]
    sharing = component("sharing", row.parts.get("sharing", "none"), SHARING)
    sharing.bind(qmp_envs.make_task_set(PROBE), 1)
    return {
        "images, dict observations": "no",
        "discrete actions": "no",
        "one task only": _yes(_built, name, _one_task()),
        "the task sets of this suite": _suitable(name),
        "other Gymnasium environments that share their spaces": _yes(
            row.algorithm, "MlpPolicy", _foreign(), **_TINY, **row.arguments
        ),
        "several environments of each task": _yes(_built, name, _env(2)),
        "tasks that cannot reward a stored transition anew": "no" if sharing.columns() else "yes",
        "`n_steps` above 1": _yes(_built, name, n_steps=3),
        "a behavior with it: `+qmp` and the like": _with_behaviors(name, behaviors, fitting),
        "other methods with it, by `+`": ", ".join(f"`{one}`" for one in fitting if one not in behaviors) or "none",
    }


def _is_behavior(name: str) -> bool:
    return set(presets.method(name).parts) == {"behavior"}


def _unsupported(build: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """Why something cannot be built, up to the advice that follows; empty if it can."""
    try:
        build(*arguments, **options)
    except ValueError as error:
        reason = str(error).partition(";")[0]
        return reason.partition("': ")[2] or reason
    return ""


def _yes(build: Callable[..., object], *arguments: Any, **options: Any) -> str:
    reason = _unsupported(build, *arguments, **options)
    return f"no: {reason}" if reason else "yes"


def _built(name: str, env: MultiTaskVecEnv | None = None, **changes: Any) -> MultiTaskSAC:
    return presets.make(name, env or _env(), **_TINY, **changes)


@cache
def _env(copies: int = 1) -> MultiTaskVecEnv:
    return make_multitask_vec_env(PROBE, envs_per_task=copies)


@cache
def _one_task() -> MultiTaskVecEnv:
    return make_multitask_vec_env("QMP/Point2D-v0")


@cache
def _foreign() -> MultiTaskVecEnv:
    return make_multitask_vec_env(["Pendulum-v1", "Pendulum-v1"])


def _suitable(name: str) -> str:
    reasons = {id: _unsupported(_bind, name, id) for id in qmp_envs.ids()}
    suitable = [f"`{id}`" for id, reason in reasons.items() if not reason]
    return "all" if len(suitable) == len(reasons) else f"only {', '.join(suitable)}"


def _bind(name: str, id: str) -> None:
    """The parts that depend on the tasks, made for those of an id.

    :raises ValueError: if they do not fit
    """
    task_set, settings = qmp_envs.make_task_set(id), presets.settings(name, id)
    parse_behavior(settings.get("behavior", MultiTaskSAC.default_behavior)).bind(task_set.num_tasks, task_set)
    component("sharing", settings.get("sharing", "none"), SHARING).bind(task_set, 1)


def _with_behaviors(name: str, behaviors: list[str], fitting: list[str]) -> str:
    if _is_behavior(name):
        return "it is one"
    missing = [f"`{one}`" for one in behaviors if one not in fitting]
    if len(missing) == len(behaviors):
        return _yes(_built, f"{name}+qmp")
    return f"yes, all but {', '.join(missing)}" if missing else "yes, each of them"
