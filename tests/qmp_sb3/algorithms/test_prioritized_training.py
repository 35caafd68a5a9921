"""Training with prioritized replay: errors handed back, saving and going on, the methods."""

import pickle

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import Logger

from qmp_sb3 import MultiTaskSAC, presets
from qmp_sb3.native import unavailable
from qmp_sb3.objectives import TASK_WEIGHTS
from qmp_sb3.replay.draws import Prioritized
from tests.qmp_sb3.replay.prioritized_buffers import ROWS, TA_PER, TASKS, give, make_buffer, random_errors, store
from tests.qmp_sb3.small_models import drifts, equal, make, weights

# ---- the update ----


@pytest.mark.parametrize("n_critics", [1, 2, 3])
@pytest.mark.parametrize("replay", ["own", "mass"])
def test_errors_handed_back_are_those_of_the_critics_before_the_step(replay, n_critics):
    """Computed apart, row by row and in double precision."""
    model = make(cls=MultiTaskSAC, replay=replay, draw="per", policy_kwargs={"n_critics": n_critics}).learn(120)
    batch = model.replay_buffer.sample(8)
    noise = th.randn(2, *batch.actions.shape, generator=th.Generator().manual_seed(0))
    with th.no_grad():
        model.policy.double()
        nexts, rows = batch.next_observations.double(), batch.observation_actions.double()
        actions, log_prob = model.actor.action_log_prob(nexts, noise[1].double())
        least = model.critic_target(th.cat([nexts, actions], dim=-1)).amin(dim=0)
        soft = least - model.temperature.double()[:, None] * log_prob
        target = batch.rewards.double() + 0.99 * batch.continuations.double() * soft
        expected = sum((target - one).abs() for one in model.critic(rows)) / n_critics
        model.policy.float()
    assert batch.errors is None
    model.update(batch, noise)
    th.testing.assert_close(batch.errors.double(), expected, rtol=1e-3, atol=1e-4)
    assert not batch.errors.requires_grad
    model.replay_buffer.feedback(batch)
    used = batch.index >= 0
    rows, tasks = batch.index[used] // TASKS, batch.index[used] % TASKS
    given = dict(zip(zip(tasks, rows, strict=True), batch.errors.numpy()[used], strict=True))  # the last one counts
    leaves = model.replay_buffer.priorities.trees.leaves()
    for (task, row), error in given.items():
        assert leaves[task, row] == pytest.approx((error + 1e-6) ** 0.6, rel=1e-6)


def test_nobody_computes_errors_for_nobody():
    model = make().learn(60)
    batch = model.replay_buffer.sample(8)
    model.update(batch, th.zeros(2, *batch.actions.shape))
    assert batch.index is None and batch.importance is None and batch.errors is None
    model.replay_buffer.feedback(batch)  # nothing to do


def test_importance_is_about_the_critics_alone():
    """Their gradient changes with the weights, those of the actors and temperatures do not."""
    models = [make(cls=MultiTaskSAC, replay="own", draw="per", backend="torch").learn(60) for _ in range(2)]
    noise = th.randn(2, TASKS, 8, 2, generator=th.Generator().manual_seed(0))
    batch = models[0].replay_buffer.sample(8)
    losses = []
    for model, importance in zip(models, (th.ones(TASKS, 8), th.rand(TASKS, 8)), strict=True):
        batch.importance = importance
        with th.no_grad():
            model.critic.optimizer.param_groups[0]["lr"] = 0.0  # so that both actors meet the same critics
        losses.append(model.update(batch, noise))
    assert th.equal(losses[0][[0, 2]], losses[1][[0, 2]]) and (losses[0][1] > losses[1][1]).all()
    assert th.equal(models[0].actor.flat.flat.grad, models[1].actor.flat.flat.grad)
    expected = (0.5 * importance * batch.errors.square()).mean(dim=1)  # a lower bound: errors are means of two
    assert (losses[1][1] >= expected).all()


def test_the_models_batches_and_priorities_go_through_training(monkeypatch):
    """One call a step, before the next draw."""
    model, calls = make(**TA_PER), []
    feedback, sample = model.replay_buffer.feedback, model.replay_buffer.sample
    monkeypatch.setattr(model.replay_buffer, "feedback", lambda batch: (calls.append("feedback"), feedback(batch)))
    monkeypatch.setattr(
        model.replay_buffer, "sample", lambda *args, **kw: (calls.append("sample"), sample(*args, **kw))[1]
    )
    model.learn(120)
    assert calls == ["sample", "feedback"] * model._n_updates and model._n_updates > 5
    leaves = model.replay_buffer.priorities.trees.leaves()
    assert len(np.unique(leaves[leaves > 0])) > 50 and model.draw.beta == pytest.approx(1.0, abs=0.1)


def test_native_updates_decline():
    model = make(draw="per")
    assert model.update_backend == "torch"
    if unavailable() is None:
        assert model.backend_note == "draw=per(0.6, 0.4)" and make(draw="uniform").backend_note is None
    with pytest.raises(ValueError, match="backend='native' cannot compute"):
        make(draw="per", backend="native")


@pytest.mark.parametrize("draw", ["uniform", "per(0, 0)"])
def test_uniform_draws_are_as_ever(draw):
    """No priority, no number drawn for one: the stream of a model without priorities is untouched."""
    one, other = make().learn(120), make(draw=draw).learn(120)
    assert equal(weights(one), weights(other)) == (draw == "uniform")


def test_what_is_logged():
    model = make(**TA_PER).learn(120)
    model.set_logger(Logger(None, []))
    model.train(2, 8)
    logged = model.logger.name_to_value
    assert logged["train/beta"] == model.draw.beta
    by_task = [logged[f"train/{name}/priority"] for name in model.task_names]
    expected = model.replay_buffer.priorities.trees.total() / model.replay_buffer.sizes
    np.testing.assert_allclose(by_task, expected)
    assert logged["train/priority"] == pytest.approx(np.mean(by_task))


# ---- saving ----


def test_a_loaded_buffer_goes_on_with_the_same_numbers():
    buffer = make_buffer(rows=1000)
    give(buffer, random_errors())
    store(buffer, [1], 5)  # not yet in the trees
    data = pickle.dumps(buffer)
    assert len(data) < 30_000, "the rows in use only"
    loaded = pickle.loads(data)
    for _ in range(3):
        mine, other = buffer.sample(16), loaded.sample(16)
        assert th.equal(mine.rows, other.rows) and th.equal(mine.importance, other.importance)
        for one, batch in ((buffer, mine), (loaded, other)):
            batch.errors = batch.rewards.abs() / 1000
            one.feedback(batch)
            store(one, [0, 2], 3)


@pytest.mark.parametrize("method", ["per", "ta-per"])
def test_a_stopped_training_goes_on_with_the_same_numbers(method, tmp_path):
    parts = dict(presets.method(method).parts)
    model = make(train_freq=10, **parts).learn(300)
    model._last_obs = None  # both go on from a reset
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = type(model).load(tmp_path / "model", env=drifts(), device="cpu")
    assert loaded.draw.beta == model.draw.beta and repr(loaded.draw) == "per(0.6, 0.4)"
    loaded.load_replay_buffer(tmp_path / "replay")
    assert loaded.replay_buffer.draw is loaded.draw and loaded.replay_buffer.priorities.alpha == loaded.draw.alpha
    model.set_env(drifts())
    for one in (model, loaded):
        one.env.seed(7)
        one.learn(150, reset_num_timesteps=False)
    assert loaded.draw.beta == model.draw.beta
    np.testing.assert_array_equal(
        loaded.replay_buffer.priorities.masses(True), model.replay_buffer.priorities.masses(True)
    )
    assert equal(weights(loaded), weights(model))


def test_beta_is_where_the_training_is(tmp_path):
    model = make(draw="per", train_freq=1).learn(150)
    assert model.draw.beta == pytest.approx(1.0, abs=0.02)
    model.learn(150, reset_num_timesteps=False)  # as SB3's schedules: 300 steps are the whole now
    assert model.draw.beta == pytest.approx(1.0, abs=0.02)
    model.learn(60)
    assert model.draw.remaining < 0.1
    half = make(draw="per(0.6, 0.4)", train_freq=1)
    half._total_timesteps = 0
    half.learn(120, callback=lambda local, _: half.num_timesteps < 60)
    assert half.draw.beta == pytest.approx(0.7, abs=0.03)
    half.save(tmp_path / "model")
    assert MultiTaskSAC.load(tmp_path / "model", device="cpu").draw.beta == half.draw.beta


def test_a_buffer_without_priorities_gets_equal_ones(tmp_path):
    """Saved by a model that draws uniformly; and the way back."""
    plain, other = make().learn(120), make(**TA_PER)
    plain.save_replay_buffer(tmp_path / "replay")
    other.load_replay_buffer(tmp_path / "replay")
    other.replay_buffer.sample(8)
    assert ((other.replay_buffer.priorities.trees.leaves() == 1.0).sum(axis=1) == other.replay_buffer.sizes).all()
    other.save_replay_buffer(tmp_path / "replay")
    plain.load_replay_buffer(tmp_path / "replay")
    assert plain.replay_buffer.priorities is None and plain.replay_buffer.sample(8).importance is None


def test_another_exponent_keeps_the_errors():
    buffer = make_buffer()
    errors = random_errors()
    give(buffer, errors)
    buffer.draw_by(Prioritized(alpha=0.3))
    there = np.arange(ROWS) < buffer.sizes[:, None]
    expected = np.where(there, (errors + 1e-6) ** 0.3, 0.0)
    np.testing.assert_allclose(buffer.priorities.trees.leaves(), expected, rtol=1e-12)
    np.testing.assert_allclose(buffer.priorities.masses(True), expected.sum(axis=1))


# ---- methods ----


@pytest.mark.parametrize("method", ["per", "ta-per"])
def test_a_method_learns(method):
    """A few hundred steps to three goals: better than before, and priorities have changed."""
    settings = dict(learning_starts=90, batch_size=32, train_freq=10, gradient_steps=10, learning_rate=1e-2)
    model = make(ent_coef=0.02, policy_kwargs={"net_arch": [32]}, **settings, **presets.method(method).parts).learn(450)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert np.mean(returns[-15:]) > 0.6 * np.mean(returns[:15]), "they are negative"
    leaves = model.replay_buffer.priorities.trees.leaves()
    assert len(np.unique(leaves[leaves > 0])) > 300


@pytest.mark.parametrize("task_weights", ["mean", "taskmean", "sum"])
@pytest.mark.parametrize("replay", ["pool", "mass"])
def test_fully_corrected_weights_favor_no_task(replay, task_weights):
    """Where every row counts alike they correct the choice of tasks, too; where each task counts by itself, only the
    choice within it: a task that is drawn nine times as often counts as the others do.
    """
    model = make(replay=replay, draw="per(1, 1)", task_weights=task_weights, batch_size=16)
    model.learn(120)
    model.draw.anneal(0.0)
    buffer, tasks = model.replay_buffer, model.n_tasks
    buffer.priorities.masses(True)
    rows = np.arange(buffer.sizes[0])
    for task in range(tasks):
        buffer.priorities.trees.update(np.full(len(rows), task), rows, np.full(len(rows), 9.0 if task == 0 else 1.0))
    shares = np.zeros(tasks)
    for _ in range(400):
        batch = buffer.sample(16)
        count_for = TASK_WEIGHTS[task_weights](batch.task_counts(), model.temperature).numpy()
        weights = batch.corrected_weights
        shares += count_for * (weights.sum(dim=1).numpy() if weights is not None else 1.0)
    expected = [1 / tasks] * tasks
    if replay == "mass" and task_weights == "mean":  # more rows of a task are the method's purpose
        assert shares[0] > 1.5 * shares[1]
    else:
        np.testing.assert_allclose(shares / shares.sum(), expected, atol=0.04)


def test_weights_among_tasks_need_rows_that_count_alike():
    make(replay="mass(importance='global')", draw="per", task_weights="mean")
    with pytest.raises(ValueError, match="task_weights='sum' a task counts by itself: use task_weights='mean'"):
        make(replay="mass(importance='global')", draw="per")
