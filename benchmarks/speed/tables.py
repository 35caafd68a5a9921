"""The tables of docs/performance.md, each a function of the stored results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.speed import environments, learners, methods, results, training
from docs.generators.tables import markdown

Cases = Mapping[tuple[str, str], Mapping[str, results.Record]]
"""(kind, case) -> variant -> record"""
Document = Mapping[str, Any]


def seconds(record: results.Record) -> float:
    """The median, s per operation."""
    return record["stats"]["median"]


def of_kind(cases: Cases, kind: str) -> dict[str, Mapping[str, results.Record]]:
    """Case name -> variant -> record."""
    return {case: variants for (group, case), variants in cases.items() if group == kind}


UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def times(factor: float) -> str:
    """How many times faster, two digits or the whole number."""
    return f"{factor:.0f}x" if factor >= 99.5 else f"{factor:.2g}x"


def duration(value: float) -> str:
    """Three digits, in s, ms or µs."""
    unit, size = next((unit for unit in UNITS if value >= unit[1]), UNITS[-1])
    number = value / size
    return f"{number:,.0f} {unit}" if number >= 99.95 else f"{number:.3g} {unit}"


def cell(variants: Mapping[str, results.Record], name: str, peer: str | None = None) -> str:
    """A time and, with a peer, how many times faster it is."""
    if name not in variants:
        return ""
    own = seconds(variants[name])
    factor = "" if peer is None or peer not in variants else f" (**{times(seconds(variants[peer]) / own)}**)"
    return duration(own) + factor


def updates(cases: Cases) -> str:
    """Ours by every backend, the separate models, and the limit."""
    return _by_backend(cases, "update", learners.SEPARATE, learners.ARITHMETIC)


def choosing(cases: Cases) -> str:
    """Ours, and the two loops."""
    return _by_backend(cases, "q-switch", learners.LOOPED, learners.BY_PREDICT)


def trainings(cases: Cases) -> str:
    """Ours, and separate models."""
    return _by_backend(cases, "training", training.SEPARATE)


def _by_backend(cases: Cases, kind: str, peer: str, *others: str) -> str:
    """Case, peer, ours by every backend, others."""
    rows = [
        [case, cell(variants, peer)]
        + [cell(variants, name, peer) for name in learners.BACKENDS]
        + [cell(variants, name) for name in others]
        for case, variants in of_kind(cases, kind).items()
    ]
    return markdown(("case", peer, *learners.BACKENDS, *others), rows)


def replay(cases: Cases) -> str:
    """Adding and drawing."""
    theirs = learners.SEPARATE_BUFFERS
    rows = [
        (f"{kind}, {case}", cell(variants, theirs), cell(variants, "ours", theirs))
        for kind in ("replay add", "replay sample")
        for case, variants in of_kind(cases, kind).items()
    ]
    return markdown(("case", theirs, "ours"), rows)


def per_task(cases: Cases) -> str:
    """An update's time divided by the number of tasks."""
    columns = [learners.SEPARATE, *learners.BACKENDS]
    rows = []
    for case, variants in of_kind(cases, "update").items():
        tasks = int(case.split()[0])
        rows.append([case, *(duration(seconds(variants[name]) / tasks) for name in columns)])
    return markdown(("update per task", *columns), rows)


def vector_steps(cases: Cases) -> str:
    """All batches beside the loops, upstream's environments, and the physics alone."""
    rows = []
    for case, variants in of_kind(cases, "vector step").items():
        peers = (environments.PLAIN, *(name for name, _ in environments.UPSTREAM.values()))
        other = next((name for name in peers if name in variants), "")
        alone = variants.get(environments.ONE_WORKER, variants[environments.BATCH])
        physics = variants.get(environments.PHYSICS)
        slots = int(case.split(", ")[1].split()[0])
        rows.append(
            [
                case,
                duration(seconds(variants[environments.BATCH])),
                f"{slots / seconds(variants[environments.BATCH]):,.0f}",
                "" if alone is variants[environments.BATCH] else duration(seconds(alone)),
                "" if physics is None else f"{seconds(alone) / seconds(physics):.2f}",
                _peer(variants, environments.DUMMY),
                f"{other}: {_peer(variants, other)}" if other else "",
            ]
        )
    heading = ("task set", environments.BATCH, "steps per second", "one worker", "one worker / `mj_step` alone")
    return markdown((*heading, environments.DUMMY, "others"), rows)


def _peer(variants: Mapping[str, results.Record], name: str) -> str:
    """A peer's time, and how many times faster ours is."""
    ours, theirs = seconds(variants[environments.BATCH]), seconds(variants[name])
    return f"{duration(theirs)} (**{times(theirs / ours)}**)"


def single_steps(cases: Cases) -> str:
    """``gym.make``, one step."""
    rows = []
    for case, variants in of_kind(cases, "env step").items():
        ours, *others = variants
        rows.append([case, cell(variants, ours), *([others[0], cell(variants, others[0])] if others else ["", ""])])
    return markdown(("task set", "gym.make", "upstream", "its step"), rows)


def construction(cases: Cases) -> str:
    """In a process that has imported everything."""
    rows = [
        (case, cell(variants, environments.BATCH), _peer(variants, environments.DUMMY))
        for case, variants in of_kind(cases, "construction").items()
    ]
    return markdown(("task set", environments.BATCH, environments.DUMMY), rows)


def evaluation(cases: Cases) -> str:
    """All episodes in one batch, and one after the other."""
    ours = "evaluate_tasks"
    rows = [
        (case, cell(variants, training.ONE_BY_ONE), cell(variants, ours, training.ONE_BY_ONE))
        for case, variants in of_kind(cases, "evaluation").items()
    ]
    return markdown(("case", training.ONE_BY_ONE, ours), rows)


def overhead(cases: Cases) -> str:
    """What the Q-switch adds to a training."""
    rows = []
    for case, variants in of_kind(cases, "overhead of qmp").items():
        qmp, base = (seconds(variants[name]) for name in ("qmp", methods.BASE))
        rows.append((case, duration(base), duration(qmp), f"{100.0 * (qmp / base - 1.0):.1f} %"))
    return markdown(("vector step of a training", f"`{methods.BASE}`", "`qmp`", "more"), rows)


def method_costs(cases: Cases) -> str:
    """Multiples of ``no-sharing``, whose own time is the first row."""
    kinds = {kind: of_kind(cases, f"method {kind}") for kind in ("update", "action")}
    sizes = list(dict.fromkeys(case.split(", ")[1] for case in kinds["action"]))
    columns = [(kind, size) for kind in kinds for size in sizes]
    base = [f"`{methods.BASE}`"]
    for kind, size in columns:
        base.append(duration(min(seconds(v[methods.BASE]) for case, v in kinds[kind].items() if case.endswith(size))))
    rows = [base]
    for name in dict.fromkeys(case.split(", ")[0] for case in kinds["action"]):
        both = [kinds[kind].get(f"{name}, {size}") for kind, size in columns]
        rows.append([f"`{name}`", *("same" if one is None else _multiple(one, name) for one in both)])
    return markdown(("method", *(f"{kind}, {size}" for kind, size in columns)), rows)


def _multiple(variants: Mapping[str, results.Record], name: str) -> str:
    return f"{seconds(variants[name]) / seconds(variants[methods.BASE]):.2f}"


def sbx(cases: Cases) -> str:
    """As measured in its own process, beside ours of the same size."""
    updates = of_kind(cases, "update")
    rows = []
    for (kind, case), variants in cases.items():
        if not kind.startswith("SBX"):
            continue
        for variant, record in variants.items():
            same = updates.get(case.replace("update of ", "").replace("SACs", "tasks"), {})
            ours = [cell(same, name) for name in learners.BACKENDS]
            rows.append([f"{kind}: {case}", variant, duration(seconds(record)), *ours])
    return markdown(("SBX", "variant", "time", *(f"ours, {name}" for name in learners.BACKENDS)), rows)


def distance(cases: Cases) -> str:
    """The share of an update that is arithmetic at full speed, of one core for each thread."""
    rows = []
    for case, variants in of_kind(cases, "update").items():
        floor = seconds(variants[learners.ARITHMETIC])
        cores = [int(name.split()[-2]) if "threads" in name else 1 for name in learners.BACKENDS]
        shares = [
            100.0 * floor / count / seconds(variants[name])
            for name, count in zip(learners.BACKENDS, cores, strict=True)
        ]
        peers = 100.0 * floor / seconds(variants[learners.SEPARATE])
        rows.append([case, *(f"{share:.0f} %" for share in (peers, *shares))])
    return markdown(("update", learners.SEPARATE, *learners.BACKENDS), rows)
