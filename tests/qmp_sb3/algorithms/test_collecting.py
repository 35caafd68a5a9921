"""Collecting is Stable-Baselines3's loop with less work: the same run and hooks, infos made when they are read."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from qmp_sb3 import QMP, make_multitask_vec_env
from qmp_sb3.algorithms.collecting import CollectingAlgorithm
from qmp_sb3.vec_env import slot_infos
from qmp_sb3.vec_env.slot_infos import SlotInfos, flags
from tests.qmp_sb3.small_models import drifts, equal, make, weights

REACHER = "QMP/MultistageReacher-v0"


class Recorder(BaseCallback):
    """What a callback sees in each vector step."""

    def _on_training_start(self) -> None:
        self.seen, self.names, self.order = [], set(), []

    def _on_rollout_start(self) -> None:
        self.order.append("start")

    def _on_step(self) -> bool:
        step = {name: self.locals[name] for name in ("actions", "buffer_actions", "new_obs", "rewards", "dones")}
        infos = [{key: value for key, value in info.items() if key != "episode"} for info in self.locals["infos"]]
        self.seen.append(copy.deepcopy(step | {"infos": infos, "num_timesteps": self.num_timesteps}))
        self.names |= set(self.locals)
        self.order.append(self.model.num_timesteps)
        return True

    def _on_rollout_end(self) -> None:
        self.order.append("end")


@pytest.fixture
def sb3_loop(monkeypatch):
    """Switches to Stable-Baselines3's own loop and its own hooks."""

    def collect_rollouts(model, *args, **kwargs):
        rollout = OffPolicyAlgorithm.collect_rollouts(model, *args, **kwargs)
        return rollout._replace(episode_timesteps=max(1, rollout.episode_timesteps // model.n_tasks))

    def store(model, buffer, action, new_obs, reward, dones, infos):
        model._stage_columns()
        OffPolicyAlgorithm._store_transition(model, buffer, action, new_obs, reward, dones, infos)
        model._note_ends(dones)

    def update(model, infos, dones=None):
        OffPolicyAlgorithm._update_info_buffer(model, infos, dones)
        model._note_infos(infos, dones)

    def switch():
        monkeypatch.setattr(CollectingAlgorithm, "collect_rollouts", collect_rollouts)
        monkeypatch.setattr(CollectingAlgorithm, "_store_transition", store)
        monkeypatch.setattr(CollectingAlgorithm, "_update_info_buffer", update)

    return switch


VARIANTS = {
    "plain": dict,
    "copies": lambda: dict(env=drifts(copies=2)),
    "action noise": lambda: dict(action_noise=NormalActionNoise(np.zeros(2), np.full(2, 0.3))),
    "normalized": lambda: dict(env=VecNormalize(drifts(), norm_reward=False)),
    "one task, normalized rewards": lambda: dict(which="one task", env=VecNormalize(drifts(tasks=1))),
    "monitored": lambda: dict(env=VecMonitor(drifts())),
    "changing tasks": lambda: dict(which="one task", env="QMP/Point2D-v0"),
    "n steps": lambda: dict(n_steps=3),
    "every transition": lambda: dict(gradient_steps=-1, train_freq=3),
    "Reacher": lambda: dict(which="QMP id", env=make_multitask_vec_env(REACHER, max_episode_steps=7)),
}


@pytest.mark.filterwarnings("ignore:The environment is already wrapped with a `Monitor`")
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_same_run_as_with_sb3s_loop(variant, sb3_loop):
    models, recorders = [], []
    for loop in ("ours", "SB3's"):
        if loop == "SB3's":
            sb3_loop()
        models.append(make(**VARIANTS[variant]()))
        recorders.append(Recorder())
        models[-1].learn(180, callback=recorders[-1], log_interval=2)
    ours, theirs = models
    assert ours._n_updates > 0 and equal(weights(ours), weights(theirs))
    np.testing.assert_array_equal(ours.replay_buffer.table, theirs.replay_buffer.table)
    for attribute in ("num_timesteps", "_episode_num", "_current_progress_remaining", "_n_updates"):
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    np.testing.assert_array_equal(ours._last_obs, theirs._last_obs)
    np.testing.assert_array_equal(ours._last_original_obs, theirs._last_original_obs)
    assert [(e["r"], e["l"]) for e in ours.ep_info_buffer] == [(e["r"], e["l"]) for e in theirs.ep_info_buffer]
    assert list(ours.ep_success_buffer) == list(theirs.ep_success_buffer)
    assert ours.statistics.means() == theirs.statistics.means()
    assert recorders[0].order == recorders[1].order
    assert recorders[1].names <= recorders[0].names | {"idx", "done", "kwargs", "continue_training"}
    for one, other in zip(recorders[0].seen, recorders[1].seen, strict=True):
        np.testing.assert_equal(one, other)


def test_hooks_that_a_user_overrides_are_called_as_in_sb3(sb3_loop):
    def calls() -> list[str]:
        order: list[str] = []

        def noting(name):
            def hook(self, *args, **kwargs):
                order.append(name)
                return getattr(super(Noting, self), name)(*args, **kwargs)

            return hook

        hooks = ("_sample_action", "_update_info_buffer", "_store_transition", "_on_step", "dump_logs")
        Noting = type("Noting", (QMP,), {name: noting(name) for name in hooks})
        make(cls=Noting).learn(90, log_interval=1)
        return order

    ours = calls()
    sb3_loop()
    assert ours == calls() and ours.count("_on_step") == 32 and "dump_logs" in ours


def test_infos_are_made_in_steps_that_end_an_episode_and_where_somebody_reads_them(monkeypatch):
    made = []
    by_slot = slot_infos.by_slot
    monkeypatch.setattr(slot_infos, "by_slot", lambda arrays, slots: made.append(slots) or by_slot(arrays, slots))
    make(env=drifts(length=10)).learn(3 * 40)
    assert made == [3, 3] * 4, "the step's infos and, in them, those of the ended episodes"
    made.clear()
    make(env=drifts(length=10)).learn(3 * 40, callback=lambda locals_, globals_: locals_["infos"][0] is not None)
    assert made == [3] * 36 + [3, 3] * 4


def arrays():
    return {"success": np.array([True, False]), "_success": np.array([True, True]), "x": np.array([1.0, 2.0])}


DICTIONARIES = [{"success": True, "x": 1.0}, {"success": False, "x": 2.0}]
READING = {
    "index": lambda infos: infos[1],
    "slice": lambda infos: infos[:],
    "iterate": lambda infos: [*infos],
    "list": list,
    "tuple": tuple,
    "zip": lambda infos: list(zip(infos, "ab", strict=True)),
    "reversed": lambda infos: list(reversed(infos)),
    "length": len,
    "truth": bool,
    "equal": lambda infos: infos == DICTIONARIES,
    "equal from the right": lambda infos: DICTIONARIES == infos,
    "contains": lambda infos: DICTIONARIES[0] in infos,
    "add": lambda infos: infos + [1],
    "add from the right": lambda infos: [1] + infos,
    "times": lambda infos: infos * 2,
    "extend": lambda infos: [0].__iadd__(infos),
    "repr": repr,
    "json": json.dumps,
    "pickle": lambda infos: pickle.loads(pickle.dumps(infos)),
    "copy": lambda infos: infos.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pop": lambda infos: (infos.pop(), len(infos)),
    "append": lambda infos: (infos.append(3), list(infos)),
    "set": lambda infos: (infos.__setitem__(0, "new"), list(infos)),
    "index of": lambda infos: infos.index(DICTIONARIES[1]),
    "sort": lambda infos: (infos.sort(key=lambda info: -info["x"]), list(infos)),
}


@pytest.mark.parametrize("reading", READING)
def test_infos_are_a_list_however_they_are_read(reading):
    infos = SlotInfos(arrays(), 2)
    assert isinstance(infos, list)
    expected = READING[reading](copy.deepcopy(DICTIONARIES))
    assert READING[reading](infos) == expected
    if reading in ("pickle", "copy", "deepcopy", "slice"):
        assert type(READING[reading](SlotInfos(arrays(), 2))) is list


def test_flags_are_read_without_making_infos():
    infos = SlotInfos(arrays() | {"_success": np.array([True, False])}, 2)
    assert flags(infos, "success").tolist() == [True, False]
    assert flags(infos, "absent").tolist() == [False, False]
    assert infos._arrays is not None, "nothing was made"
    infos[1]["success"] = True
    assert flags(infos, "success").tolist() == [True, True], "what a wrapper wrote counts"
    assert flags([{"success": 1}, {}], "success").tolist() == [True, False]


def test_infos_of_earlier_steps_stay_what_they_were():
    env = make_multitask_vec_env(REACHER)
    env.seed(0)
    env.reset()
    kept, read = [], []
    for number in range(5):
        infos = env.step(np.full((5, 6), 0.1 * number, np.float32))[3]
        kept.append(infos)
        read.append(copy.deepcopy(list(infos)) if number % 2 else None)
    for infos, now in zip(kept, read, strict=True):
        if now is not None:
            np.testing.assert_equal(list(infos), now)
    rewards = [[info["reward_distance"] for info in infos] for infos in kept if "reward_distance" in infos[0]]
    assert all(one != other for one, other in zip(rewards, rewards[1:], strict=False))


def test_a_burst_of_steps_and_then_as_many_updates():
    """``train_freq=k, gradient_steps=k``: the policy that acts stays the same inside a burst."""
    acting = []

    class Watching(BaseCallback):
        def _on_step(self) -> bool:
            acting.append(self.model._n_updates)
            return True

    model = make(train_freq=8, gradient_steps=8, learning_starts=0).learn(3 * 40, callback=Watching())
    assert model._n_updates == 40
    assert acting == [8 * burst for burst in range(5) for _ in range(8)]
