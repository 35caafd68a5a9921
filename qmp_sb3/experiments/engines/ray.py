"""Runs as tasks of a Ray cluster: an existing one by its address, or one on this machine for as long as it takes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qmp_sb3.experiments.engines.base import Engine
from qmp_sb3.experiments.engines.job import Job
from qmp_sb3.experiments.engines.worker import attend


class Ray(Engine):
    """Each run is one task; Ray places it where its resources are free.

    The folder of the runs has to be one that every machine of the cluster sees under the same path, and the suite has
    to be installed there. A run whose worker or machine is lost resumes elsewhere from its newest checkpoint.

    :param jobs: runs at a time (default: what the cluster has room for)
    :param threads: of each run, and as many CPUs
    :param retries: how often a lost run is restarted
    :param address: of a cluster, such as ``"auto"`` or ``"10.0.0.1:6379"``; None: a cluster on this machine
    :param gpus: for each run; a fraction such as 0.25 lets runs share one
    :param memory_gb: for each run; None: not counted
    :param resources: further resources of each run, by the names that the cluster gives them
    """

    interval = 0.5

    def __init__(
        self,
        jobs: int | None = None,
        threads: int = 1,
        retries: int = 3,
        address: str | None = None,
        gpus: float = 0.0,
        memory_gb: float | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(jobs, threads, retries)
        if gpus < 0.0 or (gpus > 1.0 and gpus != int(gpus)):
            raise ValueError(f"gpus is {gpus}; it must be a fraction between 0 and 1, or a whole number")
        if memory_gb is not None and memory_gb <= 0.0:
            raise ValueError(f"memory_gb is {memory_gb}; it must be positive, or None")
        self.address, self.gpus, self.memory_gb, self.resources = address, gpus, memory_gb, dict(resources or {})
        self._own_cluster = False

    @property
    def needed(self) -> dict[str, float]:
        """What one run takes, by Ray's names."""
        memory = {} if self.memory_gb is None else {"memory": self.memory_gb * 2**30}
        wanted = {"CPU": float(self.threads), "GPU": self.gpus, **memory, **self.resources}
        return {name: amount for name, amount in wanted.items() if amount > 0.0}

    def open(self, jobs: Sequence[Job]) -> None:
        ray = _import()
        if not ray.is_initialized():
            own: dict[str, Any] = {} if self.address else {"include_dashboard": False}
            if self.address is None and self.jobs is not None:
                own["num_cpus"] = self.jobs * self.threads
            try:
                ray.init(address=self.address, log_to_driver=False, configure_logging=False, **own)
            except ConnectionError as error:
                raise ValueError(f"there is no Ray cluster at address={self.address!r}: {error}") from error
            self._own_cluster = True
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._check_room(nodes)
        self._check_shared(nodes, jobs)
        rest = {name: amount for name, amount in self.needed.items() if name not in ("CPU", "GPU", "memory")}
        self._attend = ray.remote(
            num_cpus=self.threads,  # Ray sets OMP_NUM_THREADS to it
            num_gpus=self.gpus,
            memory=self.needed.get("memory"),
            resources=rest,
            max_retries=0,  # the engine itself begins a lost run again, and says so
            max_calls=1,  # a process for each run, whose memory is its own
        )(attend)

    def launch(self, jobs: Sequence[Job]) -> Sequence[Any]:
        return [self._attend.remote(**self.order(job)) for job in jobs]

    def ended(self, handle: Any) -> str | None:
        ray = _import()
        ready, _ = ray.wait([handle], timeout=0)
        if not ready:
            return None
        try:
            ray.get(handle)
        except ray.exceptions.RayError as error:
            return f"Ray lost it ({type(error).__name__})"
        return "its task ended"

    def close(self, handles: Sequence[Any]) -> None:
        ray = _import()
        for handle in handles:
            ray.cancel(handle, force=True)
        if self._own_cluster:
            self._own_cluster = False
            ray.shutdown()

    def _check_room(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Raise unless a machine of the cluster has what a run takes: Ray would wait for it forever."""
        for name, amount in self.needed.items():
            most = max((node["Resources"].get(name, 0.0) for node in nodes), default=0.0)
            if amount > most:
                known = sorted({one for node in nodes for one in node["Resources"] if not one.startswith("node:")})
                raise ValueError(
                    f"a run takes {amount:g} {name}, and no machine of the Ray cluster has more than {most:g}; "
                    f"the cluster has {', '.join(known)}"
                )

    def _check_shared(self, nodes: Sequence[Mapping[str, Any]], jobs: Sequence[Job]) -> None:
        """Raise unless every machine that can take a run sees the folders of the runs."""
        ray = _import()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        able = [node for node in nodes if node["Resources"].get("CPU", 0.0) >= self.threads]
        for folder in {job.path.parent for job in jobs}:
            folder.mkdir(parents=True, exist_ok=True)
            mark = folder / f".shared-{uuid.uuid4().hex}"
            mark.touch()
            try:
                there = [
                    ray.remote(_exists)
                    .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
                    .remote(str(mark))
                    for node in able
                ]
                blind = [
                    node["NodeManagerAddress"] for node, seen in zip(able, ray.get(there), strict=True) if not seen
                ]
            finally:
                mark.unlink()
            if blind:
                raise ValueError(
                    f"{folder} is not seen by {', '.join(blind)}; choose one that all machines of the cluster share"
                )


def _exists(path: str) -> bool:
    return Path(path).exists()


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError("the engine 'ray' needs Ray: pip install 'qmp-suite[cluster]'") from error
    return ray
