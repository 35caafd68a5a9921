"""How fast? ``python -m benchmarks.speed`` measures the cases, prints their table, and stores them with ``--out``.

``python -m benchmarks.speed --only update --only q-switch --out`` measures some kinds of work and puts them into the
stored results, which ``python -m benchmarks.speed.page`` makes docs/performance.md of. Two files are compared with
``pytest-benchmark compare A.json B.json --group-by=group``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.speed import results
from benchmarks.speed.cases import KINDS, ON_REQUEST, all_cases
from benchmarks.speed.interleaved import CLOCKS, Case
from benchmarks.speed.runner import ROUND_SECONDS, ROUNDS, run
from qmp_envs.suggestions import closest


def chosen(kinds: Sequence[str] | None, names: Sequence[str] | None) -> list[Case]:
    """The cases of these kinds whose name contains one of ``names``; all of the usual kinds if None.

    :raises ValueError: if a kind does not exist, or no case is left
    """
    for kind in kinds or ():
        if kind not in KINDS:
            raise ValueError(f"no kind of work is named {kind!r}; did you mean {closest(kind, KINDS)!r}? {KINDS}")
    kinds = kinds or [kind for kind in KINDS if kind not in ON_REQUEST]
    cases = [case for case in all_cases() if case.group in kinds]
    left = [case for case in cases if not names or any(name in case.name for name in names)]
    if not left:
        raise ValueError(f"no case of {list(kinds)} has {names} in its name; there are {[case.name for case in cases]}")
    return left


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="KIND", help=f"may be repeated; one of {', '.join(KINDS)}")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases with this in their name")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help="of one variant in one round")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: for a machine that is busy")
    parser.add_argument("--out", type=Path, nargs="?", const=results.RESULTS, help="store (by default %(const)s)")
    options = parser.parse_args(arguments)
    try:
        cases = chosen(options.only, options.case)
    except ValueError as error:
        parser.error(str(error))
    before = machine.load()
    run(cases, options.rounds, options.seconds, options.clock, options.out)
    print(f"\n{machine.line(before)}; {options.rounds} rounds, {options.clock} time")


if __name__ == "__main__":
    main()
