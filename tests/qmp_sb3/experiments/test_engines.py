"""Engines: what becomes of runs that fail, are killed, are stopped, or were finished before."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from qmp_sb3.experiments import Checkpoints, RunDirectory, RunSpec, run
from qmp_sb3.experiments.engines import (
    Board,
    Engine,
    Job,
    LiveBoard,
    Local,
    Outcome,
    PlainBoard,
    Ray,
    Slurm,
    base,
    make_engine,
    worker,
)
from qmp_sb3.experiments.engines.worker import attend
from qmp_sb3.experiments.runs.run import describe

ID = "QMP/Point2D-v0"
QUICK: dict[str, Any] = {
    "learning_starts": 40,
    "batch_size": 8,
    "buffer_size": 1000,
    "policy_kwargs.net_arch": [8],
}


def spec(seed: int = 0, steps: int = 120, **changes: Any) -> RunSpec:
    values = {"overrides": QUICK, "eval_every": 60, "eval_episodes": 1, "checkpoint_every": 60, **changes}
    return RunSpec(ID, "qmp", steps, seed, **values)


def has_checkpoint(path: Path) -> bool:
    """Without reading what a run is about to replace."""
    return any((path / "checkpoints").glob("[0-9]*"))


class Notes(Board):
    """What an engine tells."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Scripted(Engine):
    """Runs nothing; every launch ends as told: ``finish``, ``fail``, ``vanish`` or ``wait`` (until it is stopped)."""

    interval = 0.0
    tries_specs = False

    def __init__(self, script: dict[int, list[str]], jobs: int = 1, retries: int = 3) -> None:
        super().__init__(jobs, retries=retries)
        self.script, self.begun, self.most, self.closed = script, [], 0, None

    def map(self, *arguments: Any, **options: Any) -> Iterator[Outcome]:
        with pytest.MonkeyPatch.context() as patch:
            if not self.tries_specs:
                patch.setattr(base, "check_specs", lambda specs: None)
            return super().map(*arguments, **options)

    def open(self, jobs: Sequence[Job]) -> None:
        self.opened = [job.spec.seed for job in jobs]

    def launch(self, jobs: Sequence[Job]) -> Sequence[list[Any]]:
        self.begun += [job.spec.seed for job in jobs]
        return [[job, self.script[job.spec.seed].pop(0)] for job in jobs]

    def ended(self, handle: list[Any]) -> str | None:
        job, end = handle
        job.directory.write_config(describe(job.spec))
        if end == "wait":
            return "told to" if job.directory.stop_requested(self.name) else None
        if end == "finish":
            job.directory.write_result({"run": job.spec.to_dict(), "steps": 120, "seconds": 1.0, "tasks": {}})
        if end == "fail":
            job.directory.write_error("Traceback\n  somewhere\nValueError: the sky fell\n")
        return f"it did {end}"

    def close(self, handles: Sequence[Any]) -> None:
        self.closed = len(handles)


def states(engine: Engine, runs: Iterable[tuple[RunSpec, Path]], **arguments: Any) -> dict[int, tuple[str, str]]:
    return {one.job.spec.seed: (one.state, one.reason) for one in engine.map(runs, **arguments)}


# ---- what all engines have in common ----


def test_a_failure_is_alone_and_a_lost_run_goes_on(tmp_path: Path) -> None:
    engine = Scripted({0: ["fail"], 1: ["vanish", "vanish", "finish"], 2: ["finish"]})
    notes = Notes()
    ended = states(engine, [(spec(seed), tmp_path / str(seed)) for seed in range(3)], board=notes)
    assert ended == {0: ("failed", "ValueError: the sky fell"), 1: ("finished", ""), 2: ("finished", "")}
    assert engine.begun == [0, 1, 2, 1, 1], "a lost run waits behind the others"
    assert [note.rpartition("; ")[2] for note in notes.notes] == [
        "it resumes from its checkpoint (1 of 3)",
        "it resumes from its checkpoint (2 of 3)",
    ]
    assert engine.closed == 0


def test_retries_are_limited(tmp_path: Path) -> None:
    engine = Scripted({0: ["vanish"] * 9, 1: ["finish"]}, retries=2)
    ended = states(engine, [(spec(seed), tmp_path / str(seed)) for seed in range(2)])
    assert ended[0] == ("failed", "it did vanish, 3 times") and ended[1][0] == "finished"
    assert engine.begun == [0, 1, 0, 0]


def test_finished_runs_are_left_alone_and_equal_specs_are_run_once(tmp_path: Path) -> None:
    runs = [(spec(0), tmp_path / "a"), (spec(0), tmp_path / "b"), (spec(1), tmp_path / "c")]
    assert states(Scripted({0: ["finish"], 1: ["finish"]}), runs) == {0: ("finished", ""), 1: ("finished", "")}
    assert not (tmp_path / "b").exists()
    again = Scripted({})
    assert [outcome.state for outcome in again.map(runs)] == ["finished", "finished"] and again.begun == []


def test_a_wish_to_stop_reaches_all(tmp_path: Path) -> None:
    engine = Scripted({0: ["finish"], 1: ["wait"], 2: ["wait"], 3: []}, jobs=2)
    asked = iter([False, False, False])
    runs = [(spec(seed), tmp_path / str(seed)) for seed in range(4)]
    ended = states(engine, runs, should_stop=lambda: next(asked, True))
    assert {seed: state for seed, (state, _) in ended.items()} == {0: "finished", **dict.fromkeys((1, 2, 3), "stopped")}
    goes_on = Scripted({1: ["finish"], 2: ["finish"], 3: ["finish"]}, jobs=3)
    assert all(state == "finished" for state, _ in states(goes_on, runs).values())


def test_an_early_end_closes_the_engine(tmp_path: Path) -> None:
    engine = Scripted({0: ["finish"], 1: ["wait"]}, jobs=2)
    outcomes = engine.map([(spec(seed), tmp_path / str(seed)) for seed in range(2)])
    assert next(outcomes).state == "finished" and engine.closed is None
    outcomes.close()  # type: ignore[attr-defined]
    assert engine.closed == 1, "the run that was still at work"


def test_folders_are_checked_before_anything_runs(tmp_path: Path) -> None:
    engine = Scripted({})
    with pytest.raises(ValueError, match="is the folder of two runs"):
        engine.map([(spec(0), tmp_path / "a"), (spec(1), tmp_path / "a")])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        engine.map([(spec(0), tmp_path / "a"), (spec(1), tmp_path / "b")])
    assert not (tmp_path / "a").exists() and engine.begun == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (RunSpec(ID, "qpm", 100), "did you mean 'qmp'?"),
        (RunSpec("QMP/Point3D-v0", "qmp", 100), "did you mean 'QMP/Point2D-v0'?"),
        (spec(overrides={"learning_rat": 1e-3}), "did you mean 'learning_rate'?"),
        (spec(overrides={"behavior": "argmx(q)"}), "did you mean 'argmax'?"),
        (spec(overrides={"env_kwargs.rewrad": "exp"}), "did you mean 'reward'?"),
    ],
)
def test_every_spec_is_tried_before_any_run_starts(wrong: RunSpec, message: str, tmp_path: Path) -> None:
    engine = Scripted({})
    engine.tries_specs = True
    with pytest.raises(ValueError) as raised:
        engine.map([(spec(0), tmp_path / "good"), (wrong, tmp_path / "wrong")])
    assert message in str(raised.value) and not list(tmp_path.iterdir()) and engine.begun == []


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("locale", {}, "did you mean 'local'?"),
        ("local", {"thread": 2}, "did you mean 'threads'?"),
        ("local", {"jobs": 0}, "jobs is 0; it must be a whole number of at least 1"),
        ("local", {"retries": 1.5}, "retries is 1.5"),
        ("ray", {"gpus": 1.5}, "gpus is 1.5; it must be a fraction between 0 and 1, or a whole number"),
        ("slurm", {"cluster": "slrum"}, "did you mean 'slurm'?"),
        ("slurm", {"memory_gb": 0.0}, "memory_gb is 0.0; it must be positive"),
    ],
)
def test_a_wrong_engine_is_one_clear_error(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        make_engine(name, **settings)
    assert message in str(raised.value)


# ---- what is shown ----


def shown(board_type: type[PlainBoard] | type[LiveBoard], engine: Engine, runs: Sequence[Any], **console: Any) -> str:
    stream = io.StringIO()
    list(engine.map(runs, board=board_type(Console(file=stream, width=150, **console))))
    return stream.getvalue()


def test_plain_lines_tell_how_each_run_ended(tmp_path: Path) -> None:
    runs = [(spec(seed), tmp_path / str(seed)) for seed in range(2)]
    text = shown(PlainBoard, Scripted({0: ["fail"], 1: ["vanish", "finish"]}), runs)
    assert "2 runs, 0 of them finished before" in text and "\x1b" not in text
    assert f"qmp on {ID}, seed 0: failed (ValueError: the sky fell)" in text
    assert "resumes from its checkpoint (1 of 3)" in text and "seed 1: finished, 120 of 120 steps" in text


def test_the_live_table_has_a_row_for_each_run(tmp_path: Path) -> None:
    runs = [(spec(seed), tmp_path / str(seed)) for seed in range(3)]
    list(Scripted({0: ["finish"]}).map(runs[:1]))
    board = LiveBoard(Console(file=io.StringIO(), force_terminal=True, width=150, height=40))
    jobs = [Job(one, path) for one, path in runs]
    board.start(jobs)
    jobs[1].path.mkdir()
    progress = {"steps": 60, "total": 120, "speed": 2.0, "evaluated_at": 60, "means": {"success_any": 0.5}, "node": "a"}
    jobs[1].directory.write_progress(progress)
    board.update(jobs[1:])
    stream = io.StringIO()
    Console(file=stream, width=150).print(board.picture())
    board.stop()
    rows = [line for line in stream.getvalue().splitlines() if "seed" in line]
    assert ["seed 1" in rows[0], "seed 2" in rows[1], "seed 0" in rows[2]] == [True] * 3, "those at work come first"
    assert all(text in rows[0] for text in ("running", "60 / 120", "0:30", "50%"))
    assert "1 running, 1 waiting, 1 finished" in stream.getvalue()


def test_a_low_terminal_folds_the_last_rows(tmp_path: Path) -> None:
    board = LiveBoard(Console(file=io.StringIO(), force_terminal=True, width=150, height=12))
    board.start([Job(spec(seed), tmp_path / str(seed)) for seed in range(10)])
    stream = io.StringIO()
    Console(file=stream, width=150).print(board.picture())
    board.stop()
    assert stream.getvalue().count("seed") == 4 and "6 more rows than the terminal shows" in stream.getvalue()


# ---- the worker, in this process ----


def test_a_worker_keeps_the_traceback_and_forgets_it_when_it_goes_well(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    (directory.path / "checkpoints").write_text("in the way")
    directory.write_config(describe(spec()))
    assert attend(spec().to_dict(), directory.path, threads=1) == "failed"
    error = directory.error()
    assert error is not None and "Traceback" in error and "checkpoints" in error
    (directory.path / "checkpoints").unlink()
    assert attend(spec().to_dict(), directory.path, threads=1) == "finished"
    assert directory.error() is None and not directory.progress.exists()


def test_a_worker_that_is_not_wanted_any_more_does_nothing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    directory.request_stop()
    assert attend(spec().to_dict(), directory.path, threads=1) == "stopped"
    assert not directory.is_run


def test_a_second_engine_leaves_a_live_run_and_its_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 0.0)
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(describe(spec()))
    with directory.lock():
        directory.request_stop("another")
        directory.write_progress({"steps": 7})
        before = sorted(directory.path.iterdir())
        engine = Attending({0: []})
        [outcome] = engine.map([(spec(), directory.path)])
        assert outcome.state == "failed" and f"is being written by process {os.getpid()}" in outcome.reason
        assert sorted(directory.path.iterdir()) == before and directory.error() is None
        assert directory.stop_requested("another") and '"steps": 7' in directory.progress.read_text()


class Attending(Scripted):
    """A worker in this process."""

    def launch(self, jobs: Sequence[Job]) -> Sequence[Any]:
        for job in jobs:
            attend(**self.order(job))
        return jobs

    def ended(self, handle: Any) -> str | None:
        return "it ended"


@pytest.mark.parametrize("trust", [False, True])
def test_trust_in_a_run_reaches_its_process(trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bool] = []
    restore = Checkpoints.restore

    def listen(checkpoints: Checkpoints, model: Any, checkpoint: Any, trust: bool = False) -> Any:
        heard.append(trust)
        return restore(checkpoints, model, checkpoint, trust)

    assert not run(spec(), tmp_path / "run", should_stop=lambda: has_checkpoint(tmp_path / "run")).finished
    monkeypatch.setattr(Checkpoints, "restore", listen)
    [outcome] = Attending({0: []}).map([(spec(), tmp_path / "run")], trust=trust)
    assert outcome.state == "finished" and heard == [trust]


def test_an_error_of_an_earlier_command_does_not_count(tmp_path: Path) -> None:
    """A process that is killed before it gets to the run has not failed; one with the same error again has."""
    directory = RunDirectory(tmp_path / "0")
    directory.write_config(describe(spec()))
    directory.write_error("ValueError: the sky fell")
    runs = [(spec(0), directory.path)]
    assert states(Scripted({0: ["vanish", "finish"]}), runs)[0] == ("finished", "")
    directory.discard_result()
    assert states(Scripted({0: ["fail"]}), runs)[0] == ("failed", "ValueError: the sky fell")


# ---- processes of this machine ----


def test_local_runs_fail_are_killed_and_finish(tmp_path: Path) -> None:
    """One run has a file where its checkpoints should be, another is killed after its first checkpoint."""
    failing, killed = tmp_path / "failing", tmp_path / "killed"
    failing.mkdir()
    RunDirectory(failing).write_config(describe(spec(0)))
    (failing / "checkpoints").write_text("in the way")
    runs = [(spec(0), failing), (spec(1, steps=3000, eval_every=3000, checkpoint_every=500), killed)]
    engine, notes = Local(jobs=2), Notes()
    processes: dict[Path, int] = {}
    told: list[int] = []
    launch = engine.launch

    def remembering(jobs: Sequence[Job]) -> Sequence[Any]:
        handles = launch(jobs)
        processes.update({job.path: handle.pid for job, handle in zip(jobs, handles, strict=True)})
        return handles

    def kill_once() -> bool:
        if not told and has_checkpoint(killed):
            told.append(processes[killed])
            os.kill(told[0], signal.SIGKILL)
        return False

    engine.launch = remembering  # type: ignore[method-assign]
    outcomes = {one.job.path: one for one in engine.map(runs, kill_once, notes)}
    assert outcomes[failing].state == "failed" and "checkpoints" in outcomes[failing].reason
    assert "Traceback" in (failing / "error.txt").read_text()
    assert outcomes[killed].state == "finished", outcomes[killed].reason
    assert any("SIGKILL" in note for note in notes.notes)


def test_local_runs_stop_with_a_checkpoint_and_go_on(tmp_path: Path) -> None:
    endless = [(spec(0, steps=1_000_000, checkpoint_every=1_000_000), tmp_path / "run")]
    progress = RunDirectory(tmp_path / "run").progress
    outcomes = list(Local(jobs=1).map(endless, should_stop=progress.exists))
    assert [one.state for one in outcomes] == ["stopped"]
    checkpoint = RunDirectory(tmp_path / "run").latest_checkpoint()
    assert checkpoint is not None and checkpoint.steps > 0


# ---- clusters ----


@pytest.mark.slow
def test_a_run_of_a_lost_ray_node_goes_on_on_another_one(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = {node.all_processes["raylet"][0].process.pid: node for node in (cluster.add_node(num_cpus=1) for _ in "ab")}
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        notes, path = Notes(), tmp_path / "run"
        engine = Ray(jobs=1, address=cluster.address)
        lost: list[str] = []

        def lose_the_node() -> bool:
            if not lost and has_checkpoint(path):
                worker = json.loads((path / "lock.json").read_text())["pid"]
                node = nodes[psutil.Process(worker).ppid()]
                lost.append(node.node_id)
                cluster.remove_node(node, allow_graceful=False)
            return False

        long = spec(0, steps=3000, eval_every=3000, checkpoint_every=500)
        [outcome] = engine.map([(long, path)], lose_the_node, notes)
        assert outcome.state == "finished" and lost, outcome.reason
        assert any("Ray lost it" in note for note in notes.notes)
        until = time.monotonic() + 60  # the cluster itself may miss the node later than the run does
        while lost[0] in [node["NodeID"] for node in ray.nodes() if node["Alive"]]:
            assert time.monotonic() < until
            time.sleep(0.5)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_ray_says_what_no_node_has(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with pytest.raises(ValueError, match="a run takes 2 robots, and no machine of the Ray cluster has more than 0"):
        list(Ray(jobs=1, resources={"robots": 2}).map([(spec(), tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_preempted_slurm_task_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
    path = tmp_path / "run"
    engine, told = Slurm(jobs=1, cluster="local"), []

    def preempt() -> bool:
        if not told and has_checkpoint(path):
            controller = psutil.Process(int((path / ".task").read_text()))
            for task in controller.children(recursive=True):
                task.send_signal(signal.SIGUSR2)
            told.append(time.monotonic())
        return False

    long = spec(0, steps=6000, eval_every=6000, checkpoint_every=1500)
    [outcome] = engine.map([(long, path)], preempt)
    assert outcome.state == "finished" and told, outcome.reason
    logs = "".join(file.read_text() for file in (tmp_path / ".slurm").glob("*_log.*"))
    assert "Requeued job" in logs


def test_a_slurm_job_is_an_array_that_may_be_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
    from submitit.slurm import test_slurm

    with test_slurm.mocked_slurm() as slurm:
        engine = Slurm(jobs=2, threads=3, minutes=90, partition="robots", options={"qos": "low"}, retries=5)
        jobs = [Job(spec(seed), tmp_path / str(seed)) for seed in range(3)]
        engine.open(jobs)
        handles = engine.launch(jobs)
        script = next((tmp_path / ".slurm").glob("*_submission.sh")).read_text()
        numbers = [handle.job_id for handle in handles]
        # The command was ended and is given again: its tasks are still at work, later they are not.
        second = Slurm()
        second.open(jobs)
        adopted = second.launch(jobs)
        assert [handle.job_id for handle in adopted] == numbers
        canceled: list[str] = []
        monkeypatch.setattr(submitit.SlurmJob, "cancel", lambda job, check=True: canceled.append(job.job_id))
        second.halt(jobs[0], adopted[0])
        second.close(adopted)
        how = second.ended(adopted[0])
        assert canceled == [] and how is not None and "another command submitted it" in how
        assert not jobs[0].directory.stop_requested(engine.name) and not jobs[0].directory.stop_requested(second.name)
        engine.halt(jobs[0], handles[0])
        assert jobs[0].directory.stop_requested(engine.name)
        engine.close(handles)
        assert canceled[-3:] == numbers
        slurm.set_job_state(numbers[0].partition("_")[0], "FAILED", array=3)
        submitit.SlurmJob.watcher.clear()
        assert not set(numbers) & {handle.job_id for handle in second.launch(jobs)}
    for line in (
        "array=0-2%2",
        "cpus-per-task=3",
        "time=90",
        "partition=robots",
        "qos=low",
        "requeue",
        "signal=USR2@180",
    ):
        assert f"#SBATCH --{line}" in script, script
    assert "export OMP_NUM_THREADS=3" in script
