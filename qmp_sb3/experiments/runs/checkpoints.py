"""Checkpoints from which training resumes as if it had never stopped.

::

    checkpoints/000100000/             everything but the replay buffers' rows; the two newest are kept
        model.zip                      as model.save() writes it
        state.safetensors              environments, generators, counters and priorities of the replay buffers, ...
        environment.pkl                only for environments that are not the suite's, which can only be pickled
        checkpoint.json                steps, seconds, what it needs of replay/, sha256 of every file
    checkpoints/replay/000100000.safetensors
                                       rows that were new then; shared by the checkpoints, dropped when none needs them
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from qmp_envs.atomic_files import remove_parts, replace, sync, write_json
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.algorithms.training_state import resume, training_state
from qmp_sb3.replay import increments
from qmp_sb3.serialization import checkpoint_folders, read_tree, write_tree
from qmp_sb3.serialization.checkpoint_folders import FORMAT, digest, folders, own_digest, read_note
from qmp_sb3.serialization.checkpoint_folders import MODEL as _MODEL
from qmp_sb3.serialization.checkpoint_folders import NOTE as _NOTE
from qmp_sb3.vec_env.environment_state import EnvironmentState

_NAME = "{:09d}.safetensors"
_LOG = logging.getLogger(__name__)
_STATE, _ENVIRONMENT = "state.safetensors", "environment.pkl"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint; its files were verified against the digests that were written with them.

    :param path: its folder
    :param note: the content of its ``checkpoint.json``
    """

    path: Path
    note: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """Environment steps done until then, all tasks together."""
        return int(self.note["steps"])

    @property
    def seconds(self) -> float:
        """Training time until then."""
        return float(self.note["seconds"])

    @property
    def model(self) -> Path:
        return self.path / _MODEL

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The files of rows that it needs, oldest first."""
        return list(self.note["replay"])

    @property
    def written(self) -> np.ndarray | None:
        """Rows of each task that had ever been written, ``(tasks,)``; None where there were none."""
        return np.array(self.rows[-1]["end"]) if self.rows else None


class DamagedCheckpoints(ValueError):
    """There are checkpoints, but none is intact."""


class Checkpoints:
    """The checkpoints of one training run. One process at a time may write them.

    :param path: their folder; it need not be there yet
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.replay = self.path / "replay"
        self._last: Checkpoint | None = None  # what the next one builds on, and is kept beside it

    def __bool__(self) -> bool:
        """Whether there are any, intact or not."""
        return bool(folders(self.path))

    # ---- writing ----

    def save(
        self,
        model: MultiTaskOffPolicyAlgorithm,
        seconds: float = 0.0,
        about: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Checkpoint:
        """Write a checkpoint, then drop what the two newest do not need. Call it between two rollouts.

        Only rows of the replay buffers that are new since the last checkpoint are written. ``note`` says what that
        took: ``took`` (seconds), ``bytes``.

        :param model: with its environment
        :param seconds: training time so far
        :param about: plain values that :meth:`restore` hands back
        :param config: what made the model, kept in ``note`` too
        :raises ValueError: if the folder holds checkpoints that this object has not resumed from: they would be dropped
        """
        if self._last is None and self:
            raise ValueError(
                f"{self.path} holds checkpoints of an earlier training, newest {folders(self.path)[0].name}: resume "
                "from them with newest() and restore(), or choose another folder"
            )
        began, steps = time.monotonic(), model.num_timesteps
        place, part = self.path / f"{steps:09d}", self.path / f".part-{steps:09d}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        rows, new_bytes = self._save_rows(model, steps)
        model.save(part / _MODEL)
        assert model.env is not None
        environment = EnvironmentState.of(model.env)
        state = {"training": training_state(model), "environment": environment.plain, "about": dict(about or {})}
        write_tree(part / _STATE, state)
        if environment.pickled is not None:
            (part / _ENVIRONMENT).write_bytes(environment.pickled)
        files = sorted(part.iterdir())
        note = {
            "format": FORMAT,
            "steps": steps,
            "seconds": round(seconds, 3),
            "sha256": {file.name: digest(file) for file in files},
            "replay": rows,
            "bytes": new_bytes + sum(file.stat().st_size for file in files),
            "took": round(time.monotonic() - began, 3),
            "config": dict(config or {}),
        }
        for file in files:
            sync(file)
        write_json(part / _NOTE, note | {"own_sha256": own_digest(note)})
        _remove(place)
        os.replace(part, place)
        sync(self.path)
        new = Checkpoint(place, note)
        self._drop_all_but([new] if self._last is None else [new, self._last])
        self._last = new
        return new

    def _save_rows(self, model: MultiTaskOffPolicyAlgorithm, steps: int) -> tuple[list[dict[str, Any]], int]:
        """Write the new rows; the files that hold all rows of now, oldest first, and the bytes written."""
        buffer = model.replay_buffer
        since = None if self._last is None else self._last.written
        before = [] if self._last is None else self._last.rows
        if since is None or (since > buffer.written).any():  # the model's buffers have been replaced
            since, before = np.zeros_like(buffer.written), []
        new, oldest = increments.rows_since(buffer, since), increments.oldest(buffer)
        needed = [one for one in before if (np.array(one["end"]) > oldest).any()]
        if len(new.rows) == 0:
            return needed, 0
        names = {one["file"] for one in needed}  # steps may have been counted from zero since
        name = next(name for name in map(_NAME.format, count(steps)) if name not in names)
        file = self.replay / name
        self.replay.mkdir(parents=True, exist_ok=True)
        replace(file, lambda part: write_tree(part, new.tree()))
        size = file.stat().st_size
        about = {"file": file.name, "first": new.first.tolist(), "end": new.end.tolist(), "bytes": size}
        return [*needed, about | {"sha256": digest(file)}], size

    def _drop_all_but(self, kept: list[Checkpoint]) -> None:
        for folder in folders(self.path):
            if folder not in [one.path for one in kept]:
                _remove(folder)
        needed = {about["file"] for one in kept for about in one.rows}
        for file in self.replay.glob("*.safetensors"):
            if file.name not in needed:
                file.unlink()

    def tidy(self) -> None:
        """Remove what a killed process left half-written."""
        remove_parts(self.path)
        remove_parts(self.replay)

    # ---- reading ----

    def newest(self) -> Checkpoint | None:
        """The newest intact one; damaged newer ones are named in the log. None where there are none at all.

        :raises DamagedCheckpoints: if there are some but none is intact, with what is wrong with each
        """
        problems: list[str] = []
        for folder in folders(self.path):
            checkpoint, problem = self._verified(folder)
            if checkpoint is not None:
                for damage in problems:
                    _LOG.warning("%s; resuming from %s", damage, folder.name)
                self._last = checkpoint
                return checkpoint
            problems.append(problem)
        if problems:
            raise DamagedCheckpoints(
                f"{'; '.join(problems)}: none is intact to resume from. To start over, move {self.path} away"
            )
        return None

    def newest_model(self) -> Path | None:
        """The model of the newest checkpoint in which the model is intact, whatever the other files are like."""
        return checkpoint_folders.newest_model(self.path)

    def newest_config(self) -> dict[str, Any] | None:
        """The ``config`` of the newest checkpoint in which it is intact."""
        notes = filter(None, map(read_note, folders(self.path)))
        return next((note["config"] for note in notes if note["config"]), None)

    def restore(
        self, model: MultiTaskOffPolicyAlgorithm, checkpoint: Checkpoint, trust: bool = False
    ) -> tuple[MultiTaskOffPolicyAlgorithm, dict[str, Any]]:
        """The model of a checkpoint, ready to learn on exactly as it would have, and what was told ``about`` it.

        :param model: one that was made in the same way, whose environment becomes the restored one's
        :param checkpoint: one of these
        :param trust: read ``environment.pkl``, which runs code; the checkpoint must then be your own. Without it the
            episodes of such environments begin anew, and a warning says so
        """
        state = read_tree(checkpoint.path / _STATE)
        env = model.get_env()
        assert env is not None, "give a model with an environment"
        pickled = checkpoint.path / _ENVIRONMENT
        left_alone = pickled.is_file() and not trust
        if left_alone:
            _LOG.warning(
                "%s holds environments that are not the suite's, as a pickle, which runs code when it is read: their "
                "episodes begin anew. If the checkpoint is your own, trust=True (qmp train --resume RUN_DIR --trust) "
                "resumes in the middle of them",
                pickled,
            )
        read = pickled.is_file() and trust
        environment = EnvironmentState(state["environment"], pickled.read_bytes() if read else None)
        restored = type(model).load(checkpoint.model, env=env, device=model.device, force_reset=False, trust=trust)
        if not resume(restored, state["training"], self._rows(checkpoint), environment) and not left_alone:
            _LOG.warning("the environments of %s could not be saved: their episodes begin anew", checkpoint.path)
        return restored, state["about"]

    def _rows(self, checkpoint: Checkpoint) -> Iterator[increments.Rows]:
        for about in checkpoint.rows:
            yield increments.Rows(**read_tree(self.replay / about["file"]))

    def _verified(self, folder: Path) -> tuple[Checkpoint | None, str]:
        """The checkpoint in a folder, or what is wrong with it."""
        note, name = read_note(folder), f"checkpoint {folder.name} is damaged"
        if note is None:
            wrong = "is not as it was written" if (folder / _NOTE).is_file() else "is missing"
            return None, f"{name}: {folder.name}/{_NOTE} {wrong}"
        wanted = {folder / file: sha256 for file, sha256 in note["sha256"].items()}
        wanted |= {self.replay / about["file"]: about["sha256"] for about in note["replay"]}
        for file, sha256 in wanted.items():
            found = digest(file)
            if found != sha256:
                wrong = "is missing" if found is None else "is not as it was written"
                return None, f"{name}: {file.relative_to(self.path)} {wrong}"
        return Checkpoint(folder, note), ""


def _remove(folder: Path) -> None:
    """Remove a checkpoint: its name first, so that nobody ever finds half of it."""
    if folder.exists():
        gone = folder.with_name(f".part-gone-{folder.name}")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(folder, gone)
        shutil.rmtree(gone)
