"""Makes docs/performance.md of the stored results: ``python -m benchmarks.speed.page``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.speed import memory, profile, results, tables
from benchmarks.speed.tables import Cases, Document

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
MEASURE = "python -m benchmarks.speed --out --only "
MEMORY = "python -m benchmarks.speed.memory --out"
NOT_RUN = "<!-- test: not run, because it takes minutes; tests/benchmarks/test_speed_benchmarks.py runs some of it -->"


class Section(NamedTuple):
    """A part of the page."""

    heading: str
    needs: str
    """The kind of cases, or the part of the results, without which there is nothing to show."""
    command: str
    """What measures it."""
    table: Callable[[Document, Cases], str]
    introduction: str


SECTIONS = (
    Section(
        "Updates",
        "update",
        f"{MEASURE}update",
        lambda document, cases: tables.updates(cases),
        """
One gradient step of all tasks, drawing the batches included, beside as many separate SB3 `SAC` models. Two hidden
layers of 256, 15 observations, 6 actions. `torch` and `native` compute the same, with one thread unless it says
otherwise. In brackets: how many times faster than the separate models. The last column is a limit for one core: the
floating-point operations of the step's matrix products, at the speed of a single product of 1024 x 1024 matrices.
""",
    ),
    Section(
        "The cost per task",
        "update",
        f"{MEASURE}update",
        lambda document, cases: tables.per_task(cases),
        """
The same updates, divided by the number of tasks.
""",
    ),
    Section(
        "How far from the limit",
        "update",
        f"{MEASURE}update",
        lambda document, cases: tables.distance(cases),
        """
The share of an update that its arithmetic would take alone, at the speed of that large product, on as many cores as
there are threads. The rest is the shapes of the products (32 rows fill a core's units less than 256 do), Adam's and
Polyak's passes over all parameters, activations, noise, drawing the batch, and with PyTorch starting every operation.
""",
    ),
    Section(
        "Choosing actions",
        "q-switch",
        f"{MEASURE}q-switch",
        lambda document, cases: tables.choosing(cases),
        """
One Q-switched action for one slot of each task. The loop is what one writes for SB3 models: each policy's mean action,
the own first critic over the candidates, a sample of the best; with `predict()`, SB3's documented way to ask a model,
it takes longer still.
""",
    ),
    Section(
        "Whole trainings",
        "training",
        f"{MEASURE}training",
        lambda document, cases: tables.trainings(cases),
        """
A vector step of training on the Multistage Reacher: all five slots act by the Q-switch, step, store, and every so many
steps each task makes an update of 32 transitions. The peer is five SB3 `SAC` models with a looped Q-switch, in a
`DummyVecEnv` of `gym.make`, on the same schedule.
""",
    ),
    Section(
        "What QMP adds",
        "overhead of qmp",
        f"{MEASURE}'overhead of qmp'",
        lambda document, cases: tables.overhead(cases),
        """
A vector step of a whole training with the preset `fast`, updates included, with the Q-switch and without.
""",
    ),
    Section(
        "Where a second of training goes",
        "profile",
        "python -m benchmarks.speed.profile --out",
        lambda document, cases: profile.section(document["profile"]),
        """
QMP on the Multistage Reacher with the preset `fast`, everything in one thread. A part's time is without that of the
parts in it; starting episodes and logging happen once in many steps.
""",
    ),
    Section(
        "Evaluation",
        "evaluation",
        f"{MEASURE}evaluation",
        lambda document, cases: tables.evaluation(cases),
        """
Ten episodes of each of the Reacher's five tasks, 10,000 steps: all at the same time, and by SB3's `evaluate_policy`.
""",
    ),
    Section(
        "Stepping environments",
        "vector step",
        f"{MEASURE}'vector step'",
        lambda document, cases: tables.vector_steps(cases),
        """
Random actions, resets and infos included; in brackets, how many times faster `gym.make_vec` is. SB3's `DummyVecEnv`
loops over the same tasks made by `gym.make`. Others are what a task set replaces, or the closest there is: a vector
environment of its own, or Gymnasium's `SyncVectorEnv`; for the Reacher, which replaces none, its first task written by
hand as a plain Gymnasium environment. Where threads or processes step a set, the time with one worker stands beside.
`mj_step` alone, on the same states, is the limit of one worker. Walker2D's own steps include the moves that open its
episodes, which end all the time under random actions, and in the crawl scene with its ceilings and curbs a step costs
half as much again as in the others.
""",
    ),
    Section(
        "One environment",
        "env step",
        f"{MEASURE}'env step'",
        lambda document, cases: tables.single_steps(cases),
        """
One step of `gym.make`, task 0. A batch of one costs more than a hand-written single environment where the physics is
cheap.
""",
    ),
    Section(
        "Making environments",
        "construction",
        f"{MEASURE}construction",
        lambda document, cases: tables.construction(cases),
        """
All slots made, reset once and closed, in a process that has imported everything.
""",
    ),
    Section(
        "Time and memory of MT10 and MT50",
        "fresh",
        MEMORY,
        lambda document, cases: memory.construction_table(document["fresh"]),
        """
In fresh processes: import, construction and first reset, and the memory of all processes after it, in which what they
share counts once.
""",
    ),
    Section(
        "Memory of a run",
        "memory",
        MEMORY,
        lambda document, cases: memory.run_table(document["memory"]),
        """
What each stage of a run with QMP adds, MB, all processes together. The replay is filled with 50,000 transitions of each
task; it grows by the bytes of the last column for every further one, up to `buffer_size` per task.
""",
    ),
    Section(
        "Replay",
        "replay add",
        f"{MEASURE}'replay add' --only 'replay sample'",
        lambda document, cases: tables.replay(cases),
        """
One transition of every task stored; one batch of 32 drawn for every task.
""",
    ),
    Section(
        "SBX",
        "sbx",
        "python -m benchmarks.speed.sbx --out",
        lambda document, cases: tables.sbx(cases),
        """
[SBX](https://github.com/araffin/sbx), Stable-Baselines3 in JAX: again one model per task, in a process of its own. It
compiles, and can put many gradient steps into one call. Ours beside it are those of the tables above, measured at
another time. `predict` is without a Q-switch. Its packages are the extra `peers`.
""",
    ),
    Section(
        "What a method costs",
        "method action",
        f"{MEASURE}'method action' --only 'method update'",
        lambda document, cases: tables.method_costs(cases),
        """
One update of all tasks (drawing the batch and the sharing part included) and one action of every task (the Q-switch
included), as multiples of `no-sharing`, computed by PyTorch. All methods have two hidden layers of 256 and 64
transitions per task in a batch, so the parts are compared and not the presets' sizes. Each method is measured in rounds
that alternate with `no-sharing`, whose time is that of its quietest case. `same`: the update is that of `no-sharing`.
`ctpg` includes its guide's own update, one for every ten of the tasks'. Tasks are routes of the Maze.
""",
    ),
)


def page(document: Document) -> str:
    """The whole page."""
    cases = results.by_case(document)
    known = {kind.partition(",")[0].lower() for kind, _ in cases} | set(document)
    parts = [_preface(document)]
    for section in SECTIONS:
        if section.needs in known:
            body = section.table(document, cases)
        else:
            body = "Not measured on this machine.\n"
        console = f"{NOT_RUN}\n```console\n$ {section.command}\n```\n"
        parts.append(f"## {section.heading}\n{section.introduction}\n{console}\n{body}")
    return "\n".join(parts)


def _preface(document: Document) -> str:
    about = document["machine_info"]
    records = document["benchmarks"]
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    rounds, loads = (
        [one[outer][inner] for one in records] for outer, inner in (("stats", "rounds"), ("extra_info", "load"))
    )
    return f"""# Performance

How fast, against what, on what. `python -m benchmarks.speed.page` makes this page of
[`benchmarks/speed/results/speed.json`](../benchmarks/speed/results/speed.json), which is in pytest-benchmark's format:
`pytest-benchmark compare` shows two such files side by side. `make bench` measures everything but the methods' costs.

{about["processor"]}, {about["cpus"]} cores, {about["system"]} {about["architecture"]}; {versions}.

Times are medians of at least {min(rounds)} rounds, by the wall clock. All variants of a case run in one process, in
rounds that alternate between them, so that whatever else the machine does hits all of them alike: trust ratios more
than seconds. In the minute before a case the machine's load was {min(loads):g} to {max(loads):g}. One PyTorch thread:
a second one makes networks of this size slower as soon as another process wants a core, many times over.
"""


def main(arguments: Sequence[str] = ()) -> None:
    """Write the page; or to another path, from other results: ``page RESULTS PAGE``."""
    source, target = (Path(one) for one in arguments) if arguments else (results.RESULTS, PAGE)
    target.write_text(page(results.load(source)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
