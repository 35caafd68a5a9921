"""What can be wrong with a file that is read."""

from __future__ import annotations

from collections.abc import Sequence


class DamagedFile(ValueError):
    """The file is not whole, not of this kind, or says what no file of ours says."""


class UntrustedFile(ValueError):
    """The file has content that only pickle can bring back, and nobody said that it is to be trusted."""


def place(steps: Sequence[str | int]) -> str:
    """Where something stands in a tree, as Python writes it: ``policy_kwargs.net_arch[0]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "the value"


def untagged(where: str, kind: str) -> TypeError:
    """The error about a part, or something in it, of which files know no tag."""
    name = kind.rpartition(".")[2].strip("<>")
    return TypeError(
        f"{where} is a {kind}, which has no tag: files hold parts, and what is in them, by tags. Give it one before "
        f"saving and before loading, qmp_sb3.serialization.register('mine.{name}', {name}), or leave it out of the "
        "part's __getstate__"
    )


def untrusted(file: str, found: Sequence[tuple[str, str]]) -> UntrustedFile:
    """The error that names all that is pickled.

    :param file: its name
    :param found: where it stands and of which type it is, at least one
    """
    items = ", ".join(f"{where} ({kind})" for where, kind in found)
    return UntrustedFile(
        f"{file}: {items}: only pickle brings this back, which runs code that the file brings along; "
        "say trust=True if you trust where the file comes from"
    )
