"""Every task is evaluated alike, with the same episodes each time, by its own policy and by the mixture."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.vec_env import VecNormalize

import qmp_envs
from qmp_envs.measures import MEASURES
from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env
from qmp_sb3.evaluation import MixturePolicy, MultiTaskEvalCallback, OwnPolicy, evaluate_tasks
from qmp_sb3.evaluation import callback as module
from tests.qmp_sb3.small_models import drifts, equal, make, weights

REACHER = "QMP/MultistageReacher-v0"
LIMIT = 15


@pytest.fixture(scope="module")
def reacher() -> MultiTaskSAC:
    """A model whose tasks' policies differ."""
    return make("QMP id").learn(5 * 40)


def slot_seed(seed: int, slot: int) -> int:
    """The seed of a slot: those of neighboring evaluation seeds are far apart."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) + slot


def play(env: gym.Env, seed: int, act) -> tuple[float, int]:
    """Return and length of one episode, written as a user would."""
    observation, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        total, length, over = total + reward, length + 1, terminated or truncated
    return total, length


def test_own_policies_against_a_loop(reacher):
    env = make_multitask_vec_env(REACHER, envs_per_task=2, max_episode_steps=LIMIT)
    result = evaluate_tasks(OwnPolicy(reacher), env, episodes=2, seed=7)
    assert result.task_names == reacher.task_names and result["return"].shape == (5, 2)
    for task in range(5):
        single = gym.make(REACHER, task=task, max_episode_steps=LIMIT)
        for copy in range(2):

            def act(observation, task=task):
                return reacher.predict(observation, task=task, deterministic=True)[0]

            expected = play(single, slot_seed(7, task + 5 * copy), act)
            assert (result["return"][task, copy], result["length"][task, copy]) == pytest.approx(expected, rel=1e-4)


def test_mixture_against_a_loop(reacher):
    """The Q-switch as a user would write it: each policy's mean action, the own first critic's value, the best acts."""
    chosen = np.zeros((5, 5), int)

    def act(task):
        def choose(observation):
            proposals = [reacher.predict(observation, task=j, deterministic=True)[0] for j in range(5)]
            rows = th.tensor(np.concatenate([np.tile(observation, (5, 1)), proposals], axis=1), dtype=th.float32)
            with th.no_grad():
                values = reacher.critic(rows.expand(5, -1, -1))[0, task]  # first critic, (candidates,)
            best = int(values.argmax())
            chosen[task, best] += 1
            return proposals[best]

        return choose

    env = make_multitask_vec_env(REACHER, max_episode_steps=LIMIT)
    policy = MixturePolicy(reacher)
    result = evaluate_tasks(policy, env, episodes=1, seed=3)
    for task in range(5):
        single = gym.make(REACHER, task=task, max_episode_steps=LIMIT)
        assert result["return"][task, 0] == pytest.approx(play(single, slot_seed(3, task), act(task))[0], rel=1e-4)
    np.testing.assert_array_equal(policy.behavior.counts, chosen)
    assert (chosen.argmax(axis=1) != np.arange(5)).any(), "somebody acts for somebody else"


def test_without_sharing_the_mixture_is_the_own_policy():
    model = make(cls=MultiTaskSAC).learn(60)
    own, mixture = (evaluate_tasks(policy(model), drifts(), 2, seed=0) for policy in (OwnPolicy, MixturePolicy))
    np.testing.assert_allclose(own["return"], mixture["return"], rtol=1e-5)


def test_the_protocol_of_the_environments_is_the_same(reacher):
    """``qmp_envs.evaluate`` and the callback's evaluation agree to the last bit."""
    ours = evaluate_tasks(OwnPolicy(reacher), make_multitask_vec_env(REACHER, 3, max_episode_steps=LIMIT), 3, seed=1)
    theirs = qmp_envs.evaluate(OwnPolicy(reacher), REACHER, seeds=(1,), episodes=3, max_episode_steps=LIMIT)
    for measure in MEASURES:
        np.testing.assert_array_equal(ours[measure], theirs[measure])


def test_evaluating_changes_nothing(reacher):
    before, counts = weights(reacher), reacher.behavior.counts.copy()
    first, again = (
        [evaluate_tasks(p, make_multitask_vec_env(REACHER, max_episode_steps=LIMIT), 1, 0)["return"] for p in policies]
        for policies in [(OwnPolicy(reacher), MixturePolicy(reacher)) for _ in range(2)]
    )
    np.testing.assert_array_equal(first, again)
    assert equal(before, weights(reacher))
    np.testing.assert_array_equal(counts, reacher.behavior.counts)


def test_training_is_the_same_with_and_without_evaluation():
    quiet = make().learn(120)
    watched = make().learn(120, callback=MultiTaskEvalCallback(drifts(), 30, 2))
    assert equal(weights(quiet), weights(watched))


@pytest.mark.parametrize("behavior", ["hold(4, argmax(q))", "own(0.5, argmax(q))", "uniform", "softmax(1.0, q)"])
def test_mixtures_with_memory_or_chance(behavior):
    model = make(behavior=behavior).learn(60)
    results = [evaluate_tasks(MixturePolicy(model, seed=1), drifts(copies=2), 4, seed=0)["return"] for _ in range(2)]
    np.testing.assert_array_equal(*results)
    assert np.isfinite(results[0]).all()


def test_normalized_observations():
    env = VecNormalize(drifts(), norm_reward=False)
    model = make(env=env).learn(120)
    seen = []
    model.policy.predict, original = (
        lambda rows, *args, **kw: seen.append(rows) or original(rows, *args, **kw),
        (model.policy.predict),
    )
    raw = drifts()
    raw.envs.reset(seed=slot_seed(0, 0))
    evaluate_tasks(OwnPolicy(model), raw, 1, seed=0)
    again = drifts().envs.reset(seed=slot_seed(0, 0))[0]
    np.testing.assert_allclose(seen[0], env.normalize_obs(again), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------ callback


class TwoSuccesses(gym.Env):
    """``success`` at some step of the episode, but the whole task is never, or always, done at its end."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        info = {"success": self.steps == 2, "is_success": self.whole and self.steps == 5}
        return np.zeros(1, np.float32), 1.0, False, self.steps == 5, info


def test_both_measures_of_success(tmp_path):
    env = make_multitask_vec_env([TwoSuccesses(False), TwoSuccesses(True)])
    callback = MultiTaskEvalCallback(
        make_multitask_vec_env([TwoSuccesses(False), TwoSuccesses(True)]), 20, 3, log_path=tmp_path
    )
    model = make(env=env).learn(20, callback=callback)
    assert callback.last["success_any"].tolist() == [[1.0] * 3, [1.0] * 3]
    assert callback.last["success_all"].tolist() == [[0.0] * 3, [1.0] * 3]
    assert np.isnan(callback.last["subgoals"]).all()
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["successes"].tolist() == [[0, 0, 0, 1, 1, 1]], "SB3's array holds the strict measure"
        assert saved["successes_any"].tolist() == [[1] * 6]
    means = model.statistics.means()
    assert means["success_any"] == 1.0 and means["success_all"] == 0.5, "the rollout statistics agree"


class Logged(BaseCallback):
    """Keeps what is logged at each evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []
        self.steps: list[int] = []

    def _init_callback(self) -> None:
        original = self.logger.dump

        def dump(step: int = 0) -> None:
            values = dict(self.logger.name_to_value)
            if any(key.startswith("eval/") for key in values):
                self.seen.append(values)
                self.steps.append(step)
            original(step)

        self.logger.dump = dump

    def _on_step(self) -> bool:
        return True


def test_log_keys():
    logged = Logged()
    callback = MultiTaskEvalCallback(make_multitask_vec_env(REACHER, max_episode_steps=LIMIT), 100, 1)
    model = make("QMP id").learn(200, callback=[logged, callback])
    assert logged.steps == [100, 200]
    for measure in ("mean_reward", "mean_ep_length", "success_any", "success_all", "subgoals"):
        for prefix in ("eval", "eval_mixture"):
            by_task = [logged.seen[-1][f"{prefix}/{task}/{measure}"] for task in model.task_names]
            assert logged.seen[-1][f"{prefix}/{measure}"] == pytest.approx(np.mean(by_task))
    assert logged.seen[-1]["eval/mean_ep_length"] == LIMIT
    assert logged.seen[-1]["eval/mean_reward"] == pytest.approx(callback.last.mean("return"))


@pytest.mark.parametrize(
    "freq, expected", [(30, [30, 60, 90, 120]), (25, [27, 51, 75, 102]), (1, list(range(3, 121, 3)))]
)
def test_the_frequency_counts_the_steps_of_all_tasks(tmp_path, freq, expected):
    make().learn(120, callback=MultiTaskEvalCallback(drifts(), freq, 1, log_path=tmp_path, mixture=False))
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == expected


def test_the_file_is_sb3s_with_columns_beside_it(tmp_path):
    callback = MultiTaskEvalCallback(
        make_multitask_vec_env(REACHER, 2, max_episode_steps=LIMIT), 100, 4, log_path=tmp_path / "new" / "folder"
    )
    model = make("QMP id").learn(300, callback=callback)
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == ["evaluations.npz", "results.parquet"]
    with np.load(tmp_path / "new" / "folder" / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [100, 200, 300]
        for column in ("results", "ep_lengths", "successes", "successes_any", "stages"):
            assert saved[column].shape == saved[f"mixture_{column}"].shape == (3, 5 * 4)
        assert saved["task_ids"].tolist() == np.repeat(range(5), 4).tolist()
        assert tuple(saved["task_names"]) == model.task_names
        np.testing.assert_array_equal(saved["results"][-1].reshape(5, 4), callback.last["return"])
        np.testing.assert_array_equal(saved["mixture_results"][-1].reshape(5, 4), callback.last_mixture["return"])
        assert (saved["ep_lengths"] == LIMIT).all()


def test_one_task_has_no_mixture(tmp_path):
    callback = MultiTaskEvalCallback("QMP/Point2D-v0", 20, 2, log_path=tmp_path)
    make("one task", env="QMP/Point2D-v0").learn(40, callback=callback)
    assert callback.last_mixture is None
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert not any(key.startswith("mixture") for key in saved.files)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    callback = MultiTaskEvalCallback(drifts(), 30, 1, log_path=tmp_path)
    model = make().learn(30, callback=callback)

    def broken(file, **arrays):
        file.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(module.np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        model.learn(30, callback=callback, reset_num_timesteps=False)
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [30]


# ------------------------------------------------------------------------------------------------- best model, resume


def scripted(monkeypatch, means: list[tuple[float, float]]) -> None:
    """Evaluations that give ``(success_all, return)`` in this order."""
    queue = list(means)

    def evaluation(policy, env, episodes, seed):
        success, value = queue.pop(0)
        shape = (3, episodes)
        return qmp_envs.Evaluation(
            env.task_names,
            {
                "return": np.full(shape, value),
                "length": np.full(shape, 10.0),
                "success_any": np.full(shape, success),
                "success_all": np.full(shape, success),
                "subgoals": np.full(shape, np.nan),
            },
        )

    monkeypatch.setattr(module, "evaluate_tasks", evaluation)


class SteppedAt(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.at: list[int] = []

    def _on_step(self) -> bool:
        self.at.append(self.model.num_timesteps)
        return True


def test_the_best_model_is_that_of_the_most_success_then_return(tmp_path, monkeypatch):
    scripted(monkeypatch, [(0.0, 5.0), (0.0, 4.0), (0.5, -9.0), (0.4, 99.0), (0.5, -8.0), (0.5, -8.0)])
    best, every = SteppedAt(), SteppedAt()
    callback = MultiTaskEvalCallback(
        drifts(),
        30,
        1,
        best_model_save_path=tmp_path,
        mixture=False,
        callback_on_new_best=best,
        callback_after_eval=every,
    )
    make().learn(180, callback=callback)
    assert best.at == [30, 90, 150]
    assert every.at == [30, 60, 90, 120, 150, 180]
    assert QMP.load(tmp_path / "best_model", device="cpu").num_timesteps == 150


class Stop(BaseCallback):
    def _on_step(self) -> bool:
        return False


@pytest.mark.parametrize("when", ["callback_on_new_best", "callback_after_eval"])
def test_a_child_callback_stops_training(monkeypatch, when):
    scripted(monkeypatch, [(0.0, 0.0)] * 10)
    callback = MultiTaskEvalCallback(drifts(), 30, 1, mixture=False, **{when: Stop()})
    assert make().learn(300, callback=callback).num_timesteps == 30


def test_a_resumed_run_keeps_its_rows(tmp_path):
    model = make().learn(60, callback=MultiTaskEvalCallback(drifts(), 30, 2, log_path=tmp_path))
    model.save(tmp_path / "model")
    model.learn(60, callback=MultiTaskEvalCallback(drifts(), 30, 2, log_path=tmp_path), reset_num_timesteps=False)
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [30, 60, 90, 120]
        first = {key: saved[key] for key in saved.files}

    # The run is resumed from step 60: what was evaluated later is not its past.
    loaded = QMP.load(tmp_path / "model", env=drifts(), device="cpu")
    loaded.learn(30, callback=MultiTaskEvalCallback(drifts(), 30, 2, log_path=tmp_path), reset_num_timesteps=False)
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [30, 60, 90]
        for key in ("results", "mixture_results", "ep_lengths"):
            assert len(saved[key]) == 3
            np.testing.assert_array_equal(saved[key][:2], first[key][:2])


def test_a_resumed_run_keeps_its_best_model(tmp_path, monkeypatch):
    paths = dict(log_path=tmp_path, best_model_save_path=tmp_path)
    scripted(monkeypatch, [(0.0, 5.0), (0.8, 5.0), (0.2, 5.0), (0.9, 0.0)])
    model = make().learn(60, callback=MultiTaskEvalCallback(drifts(), 30, 1, mixture=False, **paths))
    again = MultiTaskEvalCallback(drifts(), 30, 1, mixture=False, **paths)
    model.learn(30, callback=again, reset_num_timesteps=False)
    assert QMP.load(tmp_path / "best_model", device="cpu").num_timesteps == 60, "the worse one does not replace it"
    model.learn(30, callback=again, reset_num_timesteps=False)
    assert QMP.load(tmp_path / "best_model", device="cpu").num_timesteps == 120


def test_a_new_run_in_an_old_folder_begins_anew(tmp_path):
    for _ in range(2):
        make().learn(60, callback=MultiTaskEvalCallback(drifts(), 30, 1, log_path=tmp_path))
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [30, 60]


# ------------------------------------------------------------------------------------------------------------- refusals


def test_refusals():
    with pytest.raises(ValueError, match="eval_freq=0"):
        MultiTaskEvalCallback(drifts(), eval_freq=0)
    with pytest.raises(ValueError, match="n_eval_episodes=0"):
        MultiTaskEvalCallback(drifts(), n_eval_episodes=0)
    with pytest.raises(ValueError, match="to -1, to 1.*to -1, to 0, to 1"):
        make().learn(30, callback=MultiTaskEvalCallback(drifts(tasks=2)))
    with pytest.raises(TypeError, match="SAC has no tasks"):
        sac = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu", policy_kwargs={"net_arch": [4]})
        sac.learn(10, callback=MultiTaskEvalCallback("Pendulum-v1", 10, 1))
    with pytest.raises(ValueError, match="multiple of the 2 slots"):
        make().learn(30, callback=MultiTaskEvalCallback(drifts(copies=2), 30, 3))


def test_a_stopping_rule_of_sb3_is_told_its_parent(monkeypatch):
    """SB3's ``StopTrainingOnRewardThreshold`` reads ``parent.best_mean_reward``: ours has it too."""
    scripted(monkeypatch, [(0.0, value) for value in (1.0, 2.0, 3.0, 4.0)])
    stop = StopTrainingOnRewardThreshold(2.5)
    callback = MultiTaskEvalCallback(drifts(), 30, 1, mixture=False, callback_on_new_best=stop)
    assert make().learn(300, callback=callback).num_timesteps == 90
