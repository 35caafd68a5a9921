"""Segments of the replay buffer, against a plain list of episodes."""

import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from qmp_sb3.replay import SEGMENT_COLUMNS, MultiTaskReplayBuffer, Segments

TASKS, STEPS = 2, 3


def make_buffer(slots: int, rows: int = 17, columns=SEGMENT_COLUMNS, **kwargs) -> MultiTaskReplayBuffer:
    box = spaces.Box(-1e6, 1e6, (1,), np.float32)
    settings = dict(device="cpu", n_envs=slots, n_tasks=TASKS, columns=columns, rng=np.random.default_rng(0))
    return MultiTaskReplayBuffer(rows, box, spaces.Box(-1, 1, (1,)), **settings | kwargs)


class Recorder:
    """Slots that run random episodes; every row's reward is its number, and what a segment holds is kept in lists."""

    def __init__(self, slots: int, seed: int, changing: bool = False, **kwargs) -> None:
        self.buffer, self.rng, self.changing = make_buffer(slots, **kwargs), np.random.default_rng(seed), changing
        self.slots, self.number = slots, 0
        self.tasks = np.arange(slots) % TASKS
        self.rows: list[list[int]] = [[] for _ in range(TASKS)]  # all rows of a task, in the order of writing
        self.whole: list[tuple[int, list[int]]] = []  # (task, its rows)
        self.open: list[list[int]] = [[] for _ in range(slots)]
        self.buffer.set_slot_tasks(self.tasks)

    def step(self) -> None:
        starts, dones = np.zeros(self.slots, dtype=bool), self.rng.random(self.slots) < 0.25
        numbers = self.number + np.arange(self.slots)
        self.number += self.slots
        for slot in range(self.slots):
            if len(self.open[slot]) in (0, STEPS):
                self.close(slot)
                starts[slot] = True
            self.open[slot].append(int(numbers[slot]))
            self.rows[self.tasks[slot]].append(int(numbers[slot]))
        self.buffer.stage({"chosen": numbers % 5, "segment_start": starts})
        column = numbers[:, None].astype(np.float32)
        infos = [{"TimeLimit.truncated": bool(number % 2)} for number in numbers]
        self.buffer.add(column, column + 0.5, np.zeros((self.slots, 1)), numbers.astype(np.float32), dones, infos)
        for slot in np.flatnonzero(dones):
            self.close(slot)
            if self.changing:
                self.tasks = self.tasks.copy()
                self.tasks[slot] = self.rng.integers(TASKS)
        if dones.any():
            self.buffer.set_slot_tasks(self.tasks)

    def close(self, slot: int) -> None:
        if self.open[slot]:
            self.whole.append((int(self.tasks[slot]), self.open[slot]))
            self.open[slot] = []

    def cut(self) -> None:
        for slot in range(self.slots):
            self.close(slot)
        self.buffer.flush()

    def expected(self, task: int) -> set[tuple[int, ...]]:
        """Whole segments whose first row is still there and older than any that is still being written."""
        kept = set(self.rows[task][-self.buffer.buffer_size :])
        running = [rows[0] for slot, rows in enumerate(self.open) if rows and self.tasks[slot] == task]
        order = {row: place for place, row in enumerate(self.rows[task])}
        first_running = min((order[row] for row in running), default=len(order))
        return {
            tuple(rows) for of, rows in self.whole if of == task and rows[0] in kept and order[rows[0]] < first_running
        }


def found(segments: Segments, block: int) -> set[tuple[int, ...]]:
    rewards, present = segments.batch.rewards[block].int(), segments.present[block]
    return {tuple(row[there].tolist()) for row, there in zip(rewards, present, strict=True)}


@pytest.mark.parametrize("changing", [False, True])
@pytest.mark.parametrize("slots", [2, 6])
def test_segments_are_those_of_the_list_of_episodes(slots, changing):
    """With wrap-around, several environments of a task in turn in one ring, and tasks that change at resets."""
    recorder, compared = Recorder(slots, seed=slots, changing=changing), 0
    for step in range(60):
        recorder.step()
        if step in (20, 41):
            recorder.cut()
        counts = recorder.buffer.whole_segments()
        for task in range(TASKS):
            expected = recorder.expected(task)
            assert counts[task] == len(expected)
            if expected:
                segments = recorder.buffer.segments(np.array([task]), 200, STEPS)
                assert found(segments, 0) == expected
                compared += 1
    assert recorder.buffer.full and compared > 80


def test_rows_beyond_an_episodes_end_repeat_the_last_one():
    recorder = Recorder(2, seed=0, rows=100)
    for _ in range(40):
        recorder.step()
    segments = recorder.buffer.segments(np.array([1, 0]), 50, STEPS)
    assert segments.batch.rows.shape[:3] == (2, 50, STEPS) and segments.present[:, :, 0].all()
    lengths = segments.present.sum(dim=2)
    assert set(lengths.flatten().tolist()) == {1, 2, 3}
    rewards = segments.batch.rewards
    last = rewards.gather(2, lengths[..., None] - 1).squeeze(-1)
    assert th.equal(rewards[:, :, -1], last)
    th.testing.assert_close(segments.last_observations[..., 0], last + 0.5)
    th.testing.assert_close(segments.first_observations[..., 0], rewards[:, :, 0])
    assert th.equal(segments.chosen, rewards[:, :, 0].long() % 5)
    assert (rewards[0].long() % 2 == 1).all() and (rewards[1].long() % 2 == 0).all(), "the blocks are the tasks' own"


def test_every_segment_is_drawn_alike():
    recorder = Recorder(2, seed=3, rows=100)
    for _ in range(30):
        recorder.step()
    starts = recorder.buffer.segments(np.array([0]), 20_000, STEPS).batch.rewards[0, :, 0].numpy()
    counts = np.unique(starts, return_counts=True)[1]
    expected = 20_000 / len(recorder.expected(0))
    assert ((counts - expected) ** 2 / expected).sum() < 2.0 * len(counts)


def test_a_buffer_that_was_pickled_has_the_same_segments_and_those_that_were_cut():
    recorder = Recorder(6, seed=1)
    for _ in range(50):
        recorder.step()
    loaded = pickle.loads(pickle.dumps(recorder.buffer))
    recorder.cut()
    assert recorder.buffer.full
    for buffer in (recorder.buffer, loaded):
        for task in range(TASKS):
            assert found(buffer.segments(np.array([task]), 300, STEPS), 0) == recorder.expected(task)
    recorder.buffer = loaded
    for _ in range(20):
        recorder.step()
    assert found(loaded.segments(np.array([1]), 300, STEPS), 0) == recorder.expected(1)


def test_rows_without_a_decision_belong_to_no_segment():
    buffer = make_buffer(2)
    column, infos = np.zeros((2, 1), dtype=np.float32), [{}, {}]
    for _ in range(8):
        buffer.add(column, column, column, np.zeros(2), np.zeros(2, dtype=bool), infos)
    assert buffer.whole_segments().tolist() == [0, 0]
    with pytest.raises(ValueError, match="no whole segments"):
        buffer.segments(np.array([0]), 4, STEPS)
    plain = make_buffer(2, columns={})
    assert plain.whole_segments().tolist() == [0, 0] and plain.form.width == 2 * (1 + 1) + 4


def test_storage_on_the_device_gives_the_same_segments():
    recorders = [Recorder(6, seed=5, storage=storage) for storage in ("memory", "device")]
    for recorder in recorders:
        for _ in range(40):
            recorder.step()
    one, other = (recorder.buffer.segments(np.array([0, 1]), 30, STEPS) for recorder in recorders)
    assert th.equal(one.batch.rows, other.batch.rows) and th.equal(one.present, other.present)
