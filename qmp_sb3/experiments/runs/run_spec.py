"""What a run is: the task set, the method, the seed and every choice that changes its numbers."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from qmp_envs.suggestions import closest
from qmp_sb3.methods import presets
from qmp_sb3.serialization import UntrustedFile


@dataclass(frozen=True)
class RunSpec:
    """One training run. Steps are environment steps of all tasks together.

    :param env: id of the task set, e.g. ``"QMP/MultistageReacher-v0"``
    :param method: name of the method, e.g. ``"qmp"``
    :param steps: length of the run
    :param seed: seed of the model and of its training environments
    :param preset: set of hyper-parameters, by its name in :data:`qmp_sb3.methods.presets.PRESETS`
    :param overrides: constructor keywords that replace the preset's, dotted as in ``policy_kwargs.net_arch``;
        ``env_kwargs.`` comes before options of the environments
    :param eval_every: steps between two evaluations
    :param eval_episodes: evaluation episodes per task
    :param checkpoint_every: steps between two checkpoints
    """

    env: str
    method: str
    steps: int
    seed: int = 0
    preset: str = "fast"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    eval_every: int = 25_000
    eval_episodes: int = 10
    checkpoint_every: int = 100_000

    def __post_init__(self) -> None:
        for name in ("steps", "eval_every", "eval_episodes", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return {**asdict(self), "overrides": dict(self.overrides)}

    @property
    def task_set_options(self) -> dict[str, Any]:
        """Options of the task set, the preset's and the run's own, without what only concerns training.

        :raises TypeError: for an unknown option
        """
        prefix = "env_kwargs."
        own = {key.removeprefix(prefix): value for key, value in self.overrides.items() if key.startswith(prefix)}
        presets.check_env_options(self.env, own)
        given = presets.env_options(self.method, self.env, self.preset) | own
        return {key: value for key, value in given.items() if key not in presets.ENV_OPTIONS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """The inverse of :meth:`to_dict`; a key that does not belong to a run is an error."""
        allowed = [part.name for part in fields(cls)]
        for key in values:
            if key not in allowed:
                raise ValueError(f"a run has no {key!r}; did you mean {closest(key, allowed)!r}?")
        return cls(**values)

    @classmethod
    def from_file(cls, config: Mapping[str, Any], file: str | os.PathLike[str], trust: bool = False) -> RunSpec:
        """The run of a ``config.yaml`` that somebody else may have written; making its environments runs none of
        their code.

        :param config: content of the file
        :param file: its name or folder, for the error
        :param trust: import the module that stands before the id of the task set
        :raises UntrustedFile: without ``trust``, if there is one
        :raises ValueError: if a choice is unknown to this suite
        :raises TypeError: if the task set does not have an option
        """
        spec = cls.from_dict(config["run"])
        module = spec.env.rpartition(":")[0]
        if module and not trust:
            raise UntrustedFile(
                f"{file}: its task set is {spec.env!r}, and to import the module {module!r} runs code; say trust=True "
                "(on the command line --trust) if you trust where the run and that module come from"
            )
        presets.check_overrides(spec.overrides)
        spec.task_set_options  # noqa: B018  it raises where the run names an unknown option
        return spec

    def directory_name(self, versions: Mapping[str, str]) -> str:
        """A name made from the content: equal runs share it, another choice or package version changes it.

        :param versions: package versions that the numbers depend on
        """
        content = json.dumps([self.to_dict(), dict(versions)], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        family = re.sub(r"[^A-Za-z0-9.-]+", "-", self.env.rpartition("/")[2])
        method = re.sub(r"[^A-Za-z0-9.+-]+", "-", self.method)
        return f"{family}_{method}_seed{self.seed}_{digest}"
