"""Stable-Baselines3's callbacks, evaluation and logger work with ``QMP``, for one task and for several."""

import json

import numpy as np
import pytest
from stable_baselines3.common.callbacks import (
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

from qmp_sb3 import QMP, make_multitask_vec_env
from tests.qmp_sb3.small_models import ENVS, N_TASKS, Drift, drifts, make, one_and_three, steps

# ----------------------------------------------------------------------------------------------------------- callbacks


@one_and_three
def test_callbacks_together(tmp_path, which):
    events = []
    callbacks = CallbackList(
        [
            CheckpointCallback(5, str(tmp_path), name_prefix="run", save_replay_buffer=True),
            EvalCallback(
                ENVS[which]() if which == "three tasks" else make_vec_env("Pendulum-v1"),
                callback_on_new_best=StopTrainingOnRewardThreshold(1e9),
                callback_after_eval=StopTrainingOnNoModelImprovement(100),
                eval_freq=10,
                n_eval_episodes=N_TASKS[which],
                log_path=str(tmp_path),
                best_model_save_path=str(tmp_path),
                warn=False,
                verbose=0,
            ),
            EveryNTimesteps(steps(which, 10), CheckpointCallback(1, str(tmp_path / "every"), name_prefix="n")),
            StopTrainingOnMaxEpisodes(1000),
        ]
    )
    model = make(which)
    model.learn(steps(which, 20), callback=callbacks)
    model.learn(N_TASKS[which], callback=lambda locals_, globals_: events.append(1) or True)
    assert len(events) == 4, "once per vector step of a rollout"

    names = sorted(path.name for path in tmp_path.iterdir())
    for step in (5, 10, 15, 20):
        assert f"run_{step * N_TASKS[which]}_steps.zip" in names
        assert f"run_replay_buffer_{step * N_TASKS[which]}_steps.pkl" in names
    assert len(list((tmp_path / "every").iterdir())) == 2
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [10 * N_TASKS[which], 20 * N_TASKS[which]]
        assert saved["results"].shape == (2, N_TASKS[which])
    best = QMP.load(tmp_path / "best_model", env=ENVS[which](), device="cpu")
    best.learn(steps(which, 5))
    checkpoint = QMP.load(tmp_path / f"run_{10 * N_TASKS[which]}_steps", env=ENVS[which](), device="cpu")
    checkpoint.load_replay_buffer(tmp_path / f"run_replay_buffer_{10 * N_TASKS[which]}_steps")
    # SB3 calls its callbacks before it stores the step's transitions.
    assert checkpoint.replay_buffer.sizes.tolist() == [9] * N_TASKS[which]
    checkpoint.learn(steps(which, 20), reset_num_timesteps=False)


@one_and_three
@pytest.mark.parametrize("no", [False, np.bool_(False)])
def test_a_callback_stops_training(which, no):
    model = make(which).learn(steps(which), callback=lambda locals_, globals_: no)
    assert model.num_timesteps == N_TASKS[which]


def test_stop_after_episodes():
    model = make(env=drifts(length=5)).learn(3000, callback=StopTrainingOnMaxEpisodes(2))
    assert model.num_timesteps == 3 * 10, "two episodes of every slot"


def test_stop_at_a_reward():
    stop = EvalCallback(
        drifts(), callback_on_new_best=StopTrainingOnRewardThreshold(-1e9), eval_freq=5, warn=False, verbose=0
    )
    assert make().learn(300, callback=stop).num_timesteps == 15


def test_sb3_evaluation_uses_every_slots_own_policy():
    """``evaluate_policy`` on the same slots: the mean over the tasks of what each task's own policy gets."""
    model = make().learn(90)
    env = drifts()
    env.seed(3)
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=6, return_episode_rewards=True, warn=False)
    assert lengths == [10] * 6

    env.seed(3)
    observations, expected, total = env.reset(), [], np.zeros(3)
    for _ in range(20):
        actions = [model.predict(observations[task], task=task, deterministic=True)[0] for task in range(3)]
        observations, rewards, dones, _ = env.step(np.stack(actions))
        total += rewards
        if dones.all():
            expected += total.tolist()
            total[:] = 0.0
    np.testing.assert_allclose(sorted(returns), sorted(expected), rtol=1e-4)


def test_sb3_evaluation_callback_logs_success(tmp_path):
    """``is_success`` of our environments is SB3's key."""
    env = make_multitask_vec_env("QMP/Point2D-v0")
    callback = EvalCallback(env, eval_freq=20, n_eval_episodes=2, log_path=str(tmp_path), warn=False, verbose=0)
    make("one task", env="QMP/Point2D-v0").learn(40, callback=callback)
    with np.load(tmp_path / "evaluations.npz") as saved:
        assert saved["successes"].shape == (2, 2)
        assert (saved["ep_lengths"] == 20).all()
    assert callback.logger.name_to_value["eval/success_rate"] == 0.0


def test_progress_bar(capsys):
    model = make().learn(120, progress_bar=True)
    shown = capsys.readouterr()
    assert model.num_timesteps == 120
    assert "120" in shown.out + shown.err


# -------------------------------------------------------------------------------------------------------------- logger


@one_and_three
def test_logger_formats(tmp_path, which):
    model = make(which, env=Drift() if which == "one task" else None)
    model.set_logger(configure(str(tmp_path), ["stdout", "log", "csv", "json", "tensorboard"]))
    model.learn(steps(which, 60), log_interval=N_TASKS[which])
    assert {"progress.csv", "progress.json", "log.txt"} <= {path.name for path in tmp_path.iterdir()}
    assert any("tfevents" in path.name for path in tmp_path.iterdir())
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    expected = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "time/total_timesteps"}
    expected |= {f"train/{key}" for key in ("actor_loss", "critic_loss", "ent_coef", "ent_coef_loss", "learning_rate")}
    assert expected <= set(header)
    if which == "three tasks":
        for task in model.task_names:
            assert {f"rollout/{task}/ep_rew_mean", f"train/{task}/critic_loss", f"mixture/{task}/{task}"} <= set(header)


def test_tensorboard_folder(tmp_path):
    model = make(tensorboard_log=str(tmp_path))
    model.learn(60)
    model.learn(60, tb_log_name="second")
    assert {path.name for path in tmp_path.iterdir()} == {"QMP_1", "second_1"}
    assert model.logger.dir == str(tmp_path / "second_1")


def test_long_task_names_do_not_collide_on_the_console(capsys):
    """SB3's console logger cuts keys at 36 characters and stops training if two become the same."""
    model = make("QMP id", env="QMP/Maze-v0", learning_starts=100, verbose=1)
    model.env.envs.unwrapped._limit = 5
    model.learn(400, log_interval=10)
    assert "ep_rew_mean" in capsys.readouterr().out


def test_mixture_rows_sum_to_one(tmp_path):
    model = make(learning_starts=0)
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(300, log_interval=3)
    for line in (tmp_path / "progress.json").read_text().splitlines():
        logged = json.loads(line)
        for task in model.task_names:
            row = [logged[f"mixture/{task}/{other}"] for other in model.task_names]
            assert sum(row) == pytest.approx(1.0)


@pytest.mark.parametrize("window", [1, 42])
def test_stats_window_size(window):
    model = make(stats_window_size=window, env=drifts(length=5)).learn(300)
    assert model.ep_info_buffer.maxlen == window
    assert len(model.statistics._episodes[0]["return"]) == min(window, 20)
