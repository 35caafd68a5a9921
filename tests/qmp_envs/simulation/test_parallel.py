"""Slots stepped at the same time, by threads or by processes: the same numbers, and nothing left behind."""

import copy
import gc
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import psutil
import pytest

import qmp_envs
from qmp_envs import BatchedTaskSetEnv
from qmp_envs.simulation import worker_process
from qmp_envs.simulation.threads import ThreadTeam
from qmp_envs.simulation.worker_process import WorkerEndedError
from tests.qmp_envs.drivers.test_vector import assert_same_infos
from tests.qmp_envs.simulation.parallel_sets import DIE, RAISE, ThreadedReacher, Walkers, WorkerReacher, make
from tests.sampling import BATCH_SHARES, each_batch_id, some


def children():
    gc.collect()  # what earlier tests left over ends now, and not while we count
    return psutil.Process().children(recursive=True)


def quiet_actions(envs, steps, seed=0):
    """Random actions ``(steps, slots, actions)`` that are neither RAISE nor DIE."""
    return np.random.default_rng(seed).uniform(-1.0, 0.2, (steps, *envs.action_space.shape)).astype(np.float32)


def assert_same_steps(one, other, actions):
    for action in actions:
        left, right = one.step(action), other.step(action)
        for a, b in zip(left[:4], right[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        assert_same_infos(left[4], right[4])
        for name, array in vars(one._episodes.physics.state).items():
            np.testing.assert_array_equal(array, vars(other._episodes.physics.state)[name])


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("task_set", [ThreadedReacher, WorkerReacher, Walkers])
def test_the_same_numbers_as_in_one_process(task_set, workers):
    """With autoresets, partial resets and given starts, and for a copy made in the middle of an episode."""
    serial, parallel = make(task_set, 1, num_envs=10), make(task_set, workers, num_envs=10)
    np.testing.assert_array_equal(serial.reset(seed=3)[0], parallel.reset(seed=3)[0])
    actions = quiet_actions(serial, 90)
    assert_same_steps(serial, parallel, actions[:30])
    for mask in (np.arange(10) == 4, np.arange(10) % 3 == 1):
        one, other = (envs.reset(options={"reset_mask": mask.copy()})[0] for envs in (serial, parallel))
        np.testing.assert_array_equal(one, other)
        assert_same_steps(serial, parallel, actions[30:35])
    qpos = 0.1 + np.zeros((10, serial._episodes.physics.state.qpos.shape[1]))
    one, other = (envs.reset(options={"qpos": qpos})[0] for envs in (serial, parallel))
    np.testing.assert_array_equal(one, other)
    for duplicate in (pickle.loads(pickle.dumps(parallel)), copy.deepcopy(parallel)):
        assert_same_steps(copy.deepcopy(serial), duplicate, actions[60:])
        duplicate.close()
    assert_same_steps(serial, parallel, actions[60:])  # and making copies changed nothing
    parallel.close()


def test_one_process_is_this_one_and_each_further_one_a_worker():
    before = children()
    envs = [make(Walkers, 1), make(Walkers, 2), make(Walkers, 50)]
    assert len(children()) - len(before) == 0 + 1 + 4  # five slots have work for five
    for one in envs:
        one.close()


def test_threads_end_with_their_environment():
    gc.collect()
    before = threading.active_count()
    envs = make(ThreadedReacher, 3)
    envs.reset(seed=0)
    envs.step(quiet_actions(envs, 1)[0])
    assert threading.active_count() == before + 2
    envs.close()
    assert threading.active_count() == before
    envs = make(ThreadedReacher, 3)
    envs.reset(seed=0)
    envs.step(quiet_actions(envs, 1)[0])
    threads = envs._episodes.physics._team._helpers
    del envs
    gc.collect()
    for helper in threads:
        helper.thread.join(timeout=10.0)
        assert not helper.thread.is_alive()


def test_an_error_in_a_thread_is_raised():
    team = ThreadTeam(3)
    jobs = iter(range(3))
    together = threading.Barrier(3)

    def fail():
        together.wait(10.0)
        if next(jobs) == 1:
            raise ZeroDivisionError("in one of them")

    with pytest.raises(ZeroDivisionError, match="in one of them"):
        team.run(fail)
    done = []

    def work():
        done.append(threading.get_ident())
        together.wait(10.0)

    team.run(work)  # and the team works on
    assert len(set(done)) == 3


def test_a_thread_that_is_late_is_not_waited_for():
    team, done, hold = ThreadTeam(2), [], threading.Event()
    team.run(lambda: None)
    (helper,) = team._helpers
    helper.jobs.put((0, hold.wait))  # what keeps it busy, as another process would
    team.run(lambda: done.append(threading.get_ident()))
    assert done == [threading.get_ident()], "the caller did it all, and did not wait"
    hold.set()
    helper.done.get(timeout=10.0)
    both = threading.Barrier(2)
    team.run(lambda: both.wait(10.0))  # it helps again as soon as it can
    team.close()


@pytest.mark.parametrize("slot", [0, 1])
def test_an_error_names_the_tasks_and_shows_where_it_came_from(slot):
    """Slot 0 is stepped in this process, slot 1 in a worker."""
    envs = make(Walkers, 2)
    first, _ = envs.reset(seed=0)
    actions = np.zeros((5, 2), np.float32)
    actions[slot] = RAISE
    with pytest.raises(ZeroDivisionError, match="this action is too much") as caught:
        envs.step(actions)
    names = ["'none', 'two', 'four'", "'one', 'three'"]
    assert names[slot] in caught.value.__notes__[0] and names[1 - slot] not in caught.value.__notes__[0]
    if slot == 1:
        assert 'raise ZeroDivisionError("this action is too much")' in str(caught.value.__cause__)
    np.testing.assert_array_equal(envs.reset(seed=0)[0], first)  # a reset starts over
    envs.close()


@pytest.mark.parametrize("when", ["between steps", "during a step"])
def test_a_killed_worker_is_an_error_within_a_second(when):
    envs = make(Walkers, 2)
    envs.reset(seed=0)
    actions = np.zeros((5, 2), np.float32)
    if when == "between steps":
        os.kill(envs._episodes.physics._workers[0].pid, signal.SIGKILL)
    else:
        actions[1] = DIE
    start = time.perf_counter()
    for _ in range(2):
        with pytest.raises(WorkerEndedError, match="'one', 'three' has ended .killed by SIGKILL"):
            envs.step(actions)
    assert time.perf_counter() - start < 1.0
    with pytest.raises(WorkerEndedError):
        envs.reset()
    envs.close()
    with pytest.raises(RuntimeError, match="'one', 'three' is closed"):
        envs.reset()


def test_a_worker_that_cannot_start_is_an_error_at_once():
    before = children()
    with pytest.raises(OSError, match="the model is not here") as caught:
        BatchedTaskSetEnv(Walkers(broken_task=1), workers=2)
    assert "'one', 'three'" in caught.value.__notes__[0]
    assert children() == before


def test_nothing_is_left_behind():
    before, files = children(), psutil.Process().num_fds()
    for end in (lambda envs: envs.close(), lambda envs: None):
        envs = make(Walkers, 3)
        envs.reset(seed=0)
        end(envs)
        del envs
        assert children() == before
        assert psutil.Process().num_fds() == files


def test_number_of_workers(monkeypatch):
    with pytest.raises(ValueError, match="workers must be at least 1 .* got 0"):
        make(Walkers, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    for slots_per_worker, workers in {1: 4, 2: 2, 5: 1, 6: 1}.items():  # five slots, four cores
        monkeypatch.setattr(Walkers, "slots_per_worker", slots_per_worker)
        before = len(children())
        envs = make(Walkers, None)
        assert len(children()) - before == workers - 1
        envs.close()


SCRIPT = """
import os, signal, sys, time
import numpy as np
from tests.qmp_envs.simulation.parallel_sets import Walkers, make

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started without
envs = make(Walkers, 2)
envs.reset(seed=0)
actions = np.zeros((5, 2), np.float32)
print(envs._episodes.physics._workers[0].pid, flush=True)
sys.stdin.readline()
"""


def run_script(rest):
    """A script without `if __name__ == "__main__"`, in a process group of its own; returns it and the worker's id."""
    code = SCRIPT + textwrap.dedent(rest)
    script = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    worker = psutil.Process(int(script.stdout.readline()))
    # It prints the rest only now: readline() would keep what comes early, out of communicate()'s sight.
    print(file=script.stdin, flush=True)
    return script, worker


def assert_ends(process, seconds=10.0):
    process.wait(timeout=seconds)
    assert not process.is_running()


def test_a_script_may_just_end():
    script, worker = run_script("envs.step(actions)")
    out, errors = script.communicate(timeout=30)
    assert (script.returncode, out, errors) == (0, "", "")
    assert_ends(worker)


@pytest.mark.parametrize("forked", [False, True])
def test_workers_end_with_a_killed_parent(forked):
    """Even where a copy of the parent lives on and holds the pipes open."""
    copy_of_parent = "\nif os.fork() == 0:\n    time.sleep(20)\n    os._exit(0)\n" if forked else ""
    script, worker = run_script(copy_of_parent + "while True:\n    envs.step(actions)")
    time.sleep(0.3)
    script.kill()
    script.wait()
    assert_ends(worker)
    if forked:
        os.killpg(script.pid, signal.SIGKILL)


def test_interrupting_ends_quietly():
    """Ctrl-C reaches the whole process group; only the script says something."""
    script, worker = run_script("while True:\n    envs.step(actions)")
    time.sleep(0.3)
    os.killpg(script.pid, signal.SIGINT)
    _, errors = script.communicate(timeout=30)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    assert_ends(worker)


def test_an_interrupted_environment_works_on():
    script, worker = run_script(
        """
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.0101)
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            try:
                while True:
                    envs.step(actions)
            except KeyboardInterrupt:
                pass
        fresh = make(Walkers, 1)
        assert np.array_equal(envs.reset(seed=0)[0], fresh.reset(seed=0)[0])
        for _ in range(100):
            assert np.array_equal(envs.step(actions)[0], fresh.step(actions)[0])
        print("the same")
        """
    )
    out, errors = script.communicate(timeout=60)
    assert (out, errors) == ("the same\n", "")
    assert_ends(worker)


@pytest.mark.parametrize("has_content", [False, True])
def test_interrupted_between_header_and_content(monkeypatch, has_content):
    """A reply that has content cannot be half read: the worker ends. One without leaves nothing behind."""
    envs = make(Walkers, 2)
    first, _ = envs.reset(seed=0)
    (worker,) = envs._episodes.physics._workers
    whole = worker_process.HEADER

    class Interrupted:
        size, pack = whole.size, whole.pack

        def unpack(self, header):
            raise KeyboardInterrupt

    if has_content:
        worker.order(worker_process.CALL, ("pickled", ()))
    else:
        worker.order(worker_process.STEPS[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(worker_process, "HEADER", Interrupted())
        worker.finish()
    if has_content:
        with pytest.raises(RuntimeError, match="is closed"):
            envs.reset(seed=0)
        assert not psutil.pid_exists(worker.pid)
    else:
        np.testing.assert_array_equal(envs.reset(seed=0)[0], first)
    envs.close()


def test_a_copy_of_the_process_is_told_that_the_workers_are_not_its_own():
    script, worker = run_script(
        """
        child = os.fork()
        if child == 0:
            try:
                envs.step(actions)
            except RuntimeError as error:
                print(error, flush=True)
            envs.close()
            os._exit(0)
        print("status", os.waitpid(child, 0)[1])
        envs.step(actions)
        print("still working")
        """
    )
    out, errors = script.communicate(timeout=30)
    assert errors == "" and "status 0\n" in out
    assert "belongs to another process" in out and out.endswith("still working\n")
    assert_ends(worker)


def test_threads_survive_a_copy_of_the_process():
    script, _ = run_script(
        """
        from qmp_envs.simulation.threads import ThreadTeam
        from threading import Barrier
        team, done = ThreadTeam(2), []
        def work():
            done.append(1)
            together.wait(10.0)
        together = Barrier(2)
        team.run(work)
        child = os.fork()
        together = Barrier(2)
        team.run(work)
        if child == 0:
            os._exit(len(done))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(done))
        """
    )
    out, _ = script.communicate(timeout=30)
    assert out == "4 4\n"


GUIDE = Path(__file__).parents[3] / "docs" / "guide.md"


def stepped_by():
    """The guide's table: id -> threads, processes, or the calling thread."""
    row = r"^\| (`QMP/.+?) \| (threads|processes|the calling thread)\b"
    rows = re.findall(row, GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    return {id: how for ids, how in rows for id in re.findall(r"`(\S+)`", ids)}


STEPPED_BY = stepped_by()
IN_PARALLEL = [case for case in BATCH_SHARES if STEPPED_BY.get(case.values[0]) in ("threads", "processes")]


def helpers(envs):
    """How many threads and how many processes besides this one step the slots; after a step."""
    physics = envs.unwrapped._episodes.physics
    threads = physics._team._helpers if hasattr(physics, "_team") else []
    processes = [worker for worker in getattr(physics, "_workers", []) if psutil.pid_exists(worker.pid)]
    return sum(helper.thread.is_alive() for helper in threads), len(processes)


def test_the_guide_says_for_every_id_what_steps_it():
    assert set(STEPPED_BY) == set(qmp_envs.ids())


@each_batch_id
def test_what_steps_an_id_is_what_the_guide_says(id):
    envs = gym.make_vec(id, workers=2)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    expected = {"threads": (1, 0), "processes": (0, 1), "the calling thread": (0, 0)}
    assert helpers(envs) == expected[STEPPED_BY[id]]
    envs.close()


@pytest.mark.parametrize(
    "id, slots, threads",
    [
        ("QMP/MultistageReacher-v0", 35, 1),
        ("QMP/MultistageReacher-v0", 40, 2),
        ("QMP/HalfCheetahGravity-v0", 35, 1),
        ("QMP/HalfCheetahGravity-v0", 40, 2),
        ("QMP/HalfCheetahBody-v0", 40, 2),
        ("QMP/Walker2D-v0", 8, 1),
        ("QMP/Walker2D-v0", 12, 2),
        ("QMP/Kitchen-v0", 10, 2),
    ],
)
def test_enough_slots_get_threads_of_their_own_accord(monkeypatch, id, slots, threads):
    """On two cores, from the number of slots on that the guide names."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(2), raising=False)
    envs = gym.make_vec(id, num_envs=slots)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    assert helpers(envs) == (threads - 1, 0)
    envs.close()


@pytest.mark.parametrize("id,share", IN_PARALLEL)
def test_every_id_in_parallel_gives_the_same_numbers(id, share):
    serial, parallel = (gym.make_vec(id, workers=workers, max_episode_steps=13) for workers in (1, 2))
    np.testing.assert_array_equal(serial.reset(seed=0)[0], parallel.reset(seed=0)[0])
    serial.action_space.seed(0)
    actions = [serial.action_space.sample() for _ in range(some(200, share))]
    assert_same_steps(serial.unwrapped, parallel.unwrapped, actions)
    assert helpers(serial) == (0, 0) and sum(helpers(parallel)) == 1
    parallel.close()
