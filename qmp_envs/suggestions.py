"""What a wrong name may have meant, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelled most like ``name``, however far from it."""
    return get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the list of all that is known where nothing is spelled like ``name``."""
    known = list(known)
    match = get_close_matches(str(name), known, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"
