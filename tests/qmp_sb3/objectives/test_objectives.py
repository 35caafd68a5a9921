"""What is minimized and how tasks are combined: losses, task weights, PCGrad, Divide and Conquer, temperatures."""

import numpy as np
import pytest
import torch as th

from qmp_sb3 import MultiTaskSAC
from qmp_sb3.networks import NETWORKS, NetworkSpec
from qmp_sb3.networks.flat_parameters import FlatParameters
from qmp_sb3.objectives import TASK_WEIGHTS, actor_loss, bellman_target, critic_loss, entropy_bonus, temperature_loss
from qmp_sb3.objectives.gradients import GRADIENTS, projection
from qmp_sb3.objectives.regularizers import DivideAndConquer, gaussian_kl
from qmp_sb3.replay import Batch, RowFormat
from tests.qmp_sb3.small_models import drifts, equal, make, weights

TASKS, OBS, ACT, BATCH = 3, 3, 2, 12  # the spaces of small_models.drifts


def make_batch(seed: int = 0, counts: tuple[int, ...] | None = None) -> Batch:
    """Random rows; with ``counts``, task i has so many of them and the rest only fills the block."""
    rng = np.random.default_rng(seed)
    rows = th.from_numpy(rng.normal(size=(TASKS, BATCH, 2 * (OBS + ACT) + 2)).astype(np.float32))
    rows[..., OBS : OBS + ACT].tanh_()
    batch = Batch(rows, RowFormat(OBS, ACT), rewards=rows[..., -2], continuations=(rows[..., -1] > -1).float())
    if counts is not None:
        batch.counts = th.tensor(counts)
        filled = th.arange(BATCH) < batch.counts[:, None]
        batch.weights = filled / batch.counts.clamp(min=1)[:, None]
    return batch


def make_noise(seed: int = 0) -> th.Tensor:
    return th.randn(2, TASKS, BATCH, ACT, generator=th.Generator().manual_seed(seed))


def updated(counts=None, steps=3, **kwargs) -> MultiTaskSAC:
    model = make(**kwargs)
    for step in range(steps):
        model.update(make_batch(step, counts), make_noise(step))
        model.critic_target.flat.polyak_(model.critic.flat, model.tau)
    return model


# ---- losses ----


def test_losses_are_means_over_the_rows_that_count():
    rng = np.random.default_rng(0)
    values, target = rng.normal(size=(2, TASKS, BATCH)), rng.normal(size=(TASKS, BATCH))
    log_prob, alpha, counts = rng.normal(size=(TASKS, BATCH)), np.array([0.1, 1.0, 2.0]), [12, 5, 0]
    weight = np.array([[1 / max(n, 1) if row < n else 0.0 for row in range(BATCH)] for n in counts])
    critic, actor, temperature = np.zeros((3, TASKS))
    for task, n in enumerate(counts):
        for row in range(n):
            critic[task] += sum((values[k, task, row] - target[task, row]) ** 2 for k in range(2)) / 2 / n
            actor[task] += (alpha[task] * log_prob[task, row] - min(values[:, task, row])) / n
            temperature[task] -= np.log(alpha[task]) * (log_prob[task, row] - ACT) / n
    tensors = [th.from_numpy(array) for array in (values, target, log_prob, alpha, weight)]
    values, target, log_prob, alpha, weight = tensors
    np.testing.assert_allclose(critic_loss(values, target, weight), critic)
    np.testing.assert_allclose(actor_loss(values, log_prob, alpha, weight), actor)
    np.testing.assert_allclose(temperature_loss(alpha.log(), log_prob, -ACT, weight), temperature)
    alike = th.full_like(weight, 1 / BATCH)
    th.testing.assert_close(critic_loss(values, target), critic_loss(values, target, alike))
    th.testing.assert_close(actor_loss(values, log_prob, alpha), actor_loss(values, log_prob, alpha, alike))
    th.testing.assert_close(
        temperature_loss(alpha.log(), log_prob, -ACT), temperature_loss(alpha.log(), log_prob, -ACT, alike)
    )


def test_the_target_is_the_soft_bellman_equation():
    next_values = th.tensor([[[3.0, 1.0]], [[2.0, 5.0]]])  # (critics, tasks, batch)
    bonuses = entropy_bonus(th.tensor([[-1.0, 7.0]]), th.tensor([0.5]))
    target = bellman_target(th.tensor([[1.0, 1.0]]), th.tensor([[0.9, 0.0]]), next_values, bonuses)
    th.testing.assert_close(target, th.tensor([[1 + 0.9 * (2 + 0.5), 1.0]]))  # the second one is terminal


@pytest.mark.parametrize("networks", [one for one in NETWORKS if one != "decaf"])
def test_rows_that_only_fill_the_block_change_nothing(networks):
    """Whatever stands in them, and in a task without data."""
    settings = dict(cls=MultiTaskSAC, networks=networks, replay="pool", task_weights="mean")
    model, other = make(**settings), make(**settings)
    before = weights(model)
    batch, changed = make_batch(counts=(12, 5, 0)), make_batch(counts=(12, 5, 0))
    changed.rows[1, 5:], changed.rows[2] = 3.0, -3.0
    for one, rows in ((model, batch), (other, changed)):
        losses = one.update(rows, make_noise())
        assert losses[:3, 2].abs().max() == 0.0
    assert equal(weights(model), weights(other)) and not equal(weights(model), before)
    assert model.log_ent_coef[2] == 0.0 and model.log_ent_coef[1] != 0.0


# ---- task weights ----


@pytest.mark.parametrize(
    "name, counts, expected",
    [
        ("sum", [4, 4, 4], [1, 1, 1]),
        ("sum", [4, 0, 9], [1, 0, 1]),
        ("mean", [4, 4, 4], [1 / 3, 1 / 3, 1 / 3]),
        ("mean", [6, 0, 2], [0.75, 0, 0.25]),
        ("taskmean", [6, 1, 2], [1 / 3, 1 / 3, 1 / 3]),
        ("taskmean", [6, 0, 2], [0.5, 0, 0.5]),
        ("alpha", [4, 4, 4], [10 / 12, 1 / 12, 1 / 12]),
        ("alpha", [0, 6, 2], [0, 0.5, 0.5]),
    ],
)
def test_task_weights(name, counts, expected):
    temperature = th.tensor([0.1, 1.0, 1.0])
    given = TASK_WEIGHTS[name](th.tensor(counts), temperature)
    th.testing.assert_close(given, th.tensor(expected, dtype=th.float32))
    if name == "alpha" and all(counts):
        th.testing.assert_close(given, th.softmax(-temperature.log(), dim=0))


def test_every_task_weight_is_tested_and_ignores_tasks_without_data():
    for name, function in TASK_WEIGHTS.items():
        given = function(th.tensor([5, 0, 3]), th.tensor([0.2, 0.3, 0.4]))
        assert given.dtype == th.float32 and given[1] == 0.0 and (given[[0, 2]] > 0).all(), name
        if name != "sum":
            assert given.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("networks", ["shared", "multihead"])
def test_mean_over_tasks_is_the_mean_over_all_transitions(networks):
    """c_i = n_i / B: the gradient of one learner on one mixed batch."""
    counts = (12, 5, 2)
    model = make(cls=MultiTaskSAC, networks=networks, task_weights="mean")
    batch = make_batch(counts=counts)
    target = th.randn(TASKS, BATCH, generator=th.Generator().manual_seed(1))
    losses = critic_loss(model.critic(batch.observation_actions), target, batch.weights)
    importance = TASK_WEIGHTS["mean"](batch.task_counts(), model.temperature)
    model._set_gradient(model.critic.flat, losses, importance)
    actual = model.critic.flat.flat.grad.clone()
    squares = (model.critic(batch.observation_actions) - target).square()
    mixed = th.cat([squares[:, task, :n] for task, n in enumerate(counts)], dim=1)  # (critics, 19)
    model.critic.flat.backward(0.5 * mixed.mean(dim=1).sum())
    th.testing.assert_close(actual, model.critic.flat.flat.grad, atol=1e-6, rtol=1e-4)


# ---- PCGrad (invariant 7) ----


def literally(gradients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Yu et al., algorithm 1, on the vectors themselves; every g_i' has an order of its own."""
    tasks = len(gradients)
    orders = [rng.permutation([other for other in range(tasks) if other != task]) for task in range(tasks)]
    projected = []
    for task in range(tasks):
        gradient = gradients[task].copy()
        for other in orders[task]:
            product = gradient @ gradients[other]
            if product < 0:
                gradient = gradient - product / (gradients[other] @ gradients[other]) * gradients[other]
        projected.append(gradient)
    return np.array(projected)


def projected(gradients: np.ndarray, seed: int = 0) -> np.ndarray:
    gram = th.from_numpy(gradients @ gradients.T)[None]
    return projection(gram, np.random.default_rng(seed))[0].numpy() @ gradients


@pytest.mark.parametrize("tasks", [1, 2, 5, 10])
def test_projection_is_the_algorithm_of_the_paper(tasks):
    conflicts = 0
    for seed in range(20):
        gradients = np.random.default_rng(100 + seed).normal(size=(tasks, 4))
        expected = literally(gradients, np.random.default_rng(seed))
        np.testing.assert_allclose(projected(gradients, seed), expected, atol=1e-10)
        conflicts += not np.allclose(expected, gradients)
    assert tasks == 1 or conflicts > 5


def test_without_conflict_nothing_is_projected():
    gradients = np.abs(np.random.default_rng(0).normal(size=(4, 6)))
    np.testing.assert_array_equal(projected(gradients), gradients)


def test_two_gradients_in_conflict_lose_their_components_along_each_other():
    gradients = np.array([[1.0, 0.0], [-2.0, 1.0]])
    one, other = projected(gradients)
    assert one @ gradients[1] == pytest.approx(0.0) and other @ gradients[0] == pytest.approx(0.0)
    np.testing.assert_allclose(one, [0.2, 0.4]), np.testing.assert_allclose(other, [0.0, 1.0])
    np.testing.assert_allclose(projected(np.array([[1.0, 2.0], [-1.0, -2.0]])), 0.0, atol=1e-12)
    np.testing.assert_array_equal(projected(np.array([[1.0, 2.0], [0.0, 0.0]])), [[1.0, 2.0], [0.0, 0.0]])


def quadratic_losses(network, inputs: th.Tensor) -> th.Tensor:
    goals = th.tensor([-1.0, 1.0, 2.0])[:, None, None]
    return (network(inputs) - goals).square().mean(dim=(2, 3)).sum(dim=0)


def set_gradient(combiner: str, network, task_weights: th.Tensor, seed: int = 0) -> th.Tensor:
    inputs = th.randn(TASKS, 6, 4, generator=th.Generator().manual_seed(3))
    flat = network.flat_parameters()
    GRADIENTS[combiner](flat, quadratic_losses(network, inputs), task_weights, np.random.default_rng(seed))
    return flat.flat.grad.clone()


def make_network(family: str, copies: int = 2):
    spec = NetworkSpec(4, 1, TASKS, hidden=[6], copies=copies, generator=th.Generator().manual_seed(0))
    return NETWORKS[family](spec)


def test_independent_networks_have_no_conflicts():
    given = th.tensor([1.0, 2.0, 0.5])
    plain, pcgrad = (set_gradient(one, make_network("independent"), given) for one in ("plain", "pcgrad"))
    th.testing.assert_close(plain, pcgrad)


@pytest.mark.parametrize("family", ["shared", "onehot", "multihead"])
@pytest.mark.parametrize("given", [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.0, 0.5]], ids=str)
def test_pcgrad_projects_the_gradients_of_each_copy_of_a_network(family, given):
    inputs = th.randn(TASKS, 6, 4, generator=th.Generator().manual_seed(3))
    network = make_network(family)
    by_task = []
    for task in range(TASKS):
        loss = quadratic_losses(network, inputs)[task] * (given[task] > 0)
        gradients = th.autograd.grad(loss, list(network.parameters()))
        by_task.append(th.cat([one.reshape(2, -1) for one in gradients], dim=1).numpy().astype(np.float64))
    rng = np.random.default_rng(0)
    projected = np.stack([literally(np.array(by_task)[:, copy], rng) for copy in range(2)], axis=1)
    combined = np.tensordot(given, projected, axes=1)  # (copies, parameters of a copy)
    flat = network.flat_parameters()
    pieces = th.from_numpy(combined).float().split([one.numel() // 2 for one in flat.parameters], dim=1)
    flat._set(pieces)
    expected, plain = flat.flat.grad.clone(), set_gradient("plain", make_network(family), th.tensor(given))
    actual = set_gradient("pcgrad", make_network(family), th.tensor(given))
    th.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-4)
    assert not th.allclose(actual, plain, atol=1e-3), "the tasks' goals are in conflict"


def flat_gradient(flat: FlatParameters, loss: th.Tensor) -> th.Tensor:
    gradients = th.autograd.grad(loss, flat.parameters, retain_graph=True)
    return th.cat([one.reshape(2, -1) for one in gradients], dim=1)


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("twice", [False, True])
def test_gradients_of_all_tasks_from_one_pass_are_those_of_one_pass_each(family, twice):
    """A parameter that is used twice needs one pass each."""
    network, inputs = make_network(family), th.randn(TASKS, 6, 4, generator=th.Generator().manual_seed(3))
    flat = network.flat_parameters()
    losses = quadratic_losses(network, inputs)
    if twice:
        losses = losses + quadratic_losses(network, inputs.flip(1))
    expected = [flat_gradient(flat, loss) for loss in losses]
    shares = th.randn(2, TASKS, generator=th.Generator().manual_seed(4))
    gradients = flat.by_task(losses)
    gram = sum(one.products() for one in gradients)
    flat.set_combined(gradients, shares)
    whole = th.stack(expected)  # (tasks, copies, numbers)
    th.testing.assert_close(gram, th.einsum("icn,jcn->cij", whole, whole), atol=1e-4, rtol=1e-4)
    combined = th.einsum("ck,kcn->cn", shares, whole)
    actual = th.cat([one.grad.reshape(2, -1) for one in flat.parameters], dim=1)
    th.testing.assert_close(actual, combined, atol=1e-5, rtol=1e-4)


def test_orders_come_from_the_models_own_stream():
    one, same, other = (updated(networks="multihead", gradients="pcgrad", seed=seed) for seed in (0, 0, 0))
    assert equal(weights(one), weights(same)) and equal(weights(one), weights(other))
    other.streams.objective = np.random.default_rng(99)
    for model in (same, other):
        for step in range(5):
            model.update(make_batch(step), make_noise(step))
    assert not equal(weights(same), weights(other))


# ---- Divide and Conquer (invariant 8) ----


def make_actor(**kwargs):
    return make(**kwargs).actor


def test_the_divergence_is_that_of_normal_distributions():
    mean_p, log_std_p, mean_q, log_std_q = th.randn(4, 50, dtype=th.float64, generator=th.Generator().manual_seed(0))
    normal_p, normal_q = (
        th.distributions.Normal(mean, std.exp()) for mean, std in ((mean_p, log_std_p), (mean_q, log_std_q))
    )
    expected = th.distributions.kl_divergence(normal_p, normal_q)
    th.testing.assert_close(gaussian_kl(mean_p, log_std_p, mean_q, log_std_q), expected)


@pytest.mark.parametrize("networks", ["independent", "multihead", "onehot"])
def test_the_term_is_a_sum_over_the_other_tasks(networks):
    actor, batch = make_actor(networks=networks), make_batch()
    beta = np.random.default_rng(0).uniform(size=(TASKS, TASKS))
    states = th.cat([batch.observations[task, : BATCH // TASKS] for task in range(TASKS)])
    with th.no_grad():
        term = DivideAndConquer(beta)(actor, batch)
        mean, log_std = actor.head.parameters(actor.every(states))
    policies = [th.distributions.Normal(m, s.exp()) for m, s in zip(mean, log_std, strict=True)]
    for i in range(TASKS):
        expected = sum(
            beta[i, j] * th.distributions.kl_divergence(policies[j], policies[i]).mean() for j in range(TASKS) if j != i
        )
        assert term[i].item() == pytest.approx(expected.item(), rel=1e-4)
    alike = DivideAndConquer(0.5)(actor, batch), DivideAndConquer(np.full((TASKS, TASKS), 0.5))(actor, batch)
    th.testing.assert_close(*alike)


def test_only_the_own_policy_is_drawn():
    actor, batch = make_actor(), make_batch()
    term = DivideAndConquer(1.0)(actor, batch)
    for task in range(TASKS):
        for gradient in th.autograd.grad(term[task], list(actor.network.parameters()), retain_graph=True):
            by_task = gradient.abs().flatten(1).amax(dim=1)
            assert (by_task > 0).tolist() == [other == task for other in range(TASKS)]


def test_policies_that_are_drawn_come_nearer():
    near, free = (updated(steps=30, regularizer=one, learning_rate=1e-2) for one in ("dnc(10.0)", None))
    batch = make_batch(99)
    with th.no_grad():
        near, free = (DivideAndConquer(1.0)(model.actor, batch).mean() for model in (near, free))
    assert near < 0.5 * free


def test_identical_policies_have_neither_term_nor_gradient():
    actor, batch = make_actor(), make_batch()
    with th.no_grad():
        for parameter in actor.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    term = DivideAndConquer(1.0)(actor, batch)
    th.testing.assert_close(term, th.zeros(TASKS), atol=1e-6, rtol=0)
    for gradient in th.autograd.grad(term.sum(), list(actor.network.parameters())):
        th.testing.assert_close(gradient, th.zeros_like(gradient), atol=1e-6, rtol=0)


@pytest.mark.parametrize("gradients", GRADIENTS)
def test_beta_zero_is_no_sharing_to_the_last_bit(gradients):
    plain, zero, drawn = (updated(regularizer=one, gradients=gradients) for one in (None, "dnc(0)", "dnc(0.1)"))
    assert equal(weights(plain), weights(zero))
    assert not equal(weights(plain), weights(drawn))


def test_one_task_has_no_others():
    term = DivideAndConquer(1.0)
    model = make("one task", regularizer=term)
    rows = th.randn(1, 8, 2 * (3 + 1) + 2)
    batch = Batch(rows, RowFormat(3, 1), rewards=rows[..., -2], continuations=th.ones(1, 8))
    assert term(model.actor, batch).tolist() == [0.0]


@pytest.mark.parametrize("beta", ["-0.1", "[0.1, 0.2]", "[[0.1, -0.2], [0, 0]]"])
def test_a_wrong_beta_is_refused(beta):
    with pytest.raises(ValueError, match="number or a matrix"):
        make(regularizer=f"dnc({beta})")


def test_a_matrix_for_other_tasks_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\); 3 tasks need \(3, 3\)"):
        make(regularizer="dnc([[0.1, 0.2], [0.3, 0.4]])")


# ---- one temperature for all tasks ----


def test_a_shared_temperature_is_one_number(tmp_path):
    model = make(temperatures="shared", ent_coef="auto_0.5").learn(120)
    assert model.log_ent_coef.shape == (1,) and model.temperature.shape == (TASKS,)
    assert model.temperature.unique().numel() == 1 and model.temperature[0] != 0.5
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=drifts(), device="cpu")
    assert loaded.temperatures == "shared" and th.equal(loaded.temperature, model.temperature)
    loaded.learn(120, reset_num_timesteps=False)
    assert loaded.log_ent_coef.shape == (1,) and not th.equal(loaded.temperature, model.temperature)


def test_temperatures_of_tasks_part():
    model = make(temperatures="task").learn(240)
    assert model.log_ent_coef.shape == (TASKS,) and model.temperature.unique().numel() == TASKS


def test_a_shared_temperature_may_be_given():
    model = make(temperatures="shared", ent_coef=0.2)
    assert model.temperature.tolist() == pytest.approx([0.2] * TASKS)
    with pytest.raises(ValueError, match="ent_coef has 3 values"):
        make(temperatures="shared", ent_coef=[0.1, 0.2, 0.3])


def test_a_shared_temperature_follows_all_transitions_alike():
    """J_alpha is the mean over the mixed batch: a task with four times the transitions counts four times."""
    model, batch, noise = make(temperatures="shared"), make_batch(counts=(12, 3, 0)), make_noise()
    with th.no_grad():
        _, log_prob = model.actor.action_log_prob(batch.observations, noise[0])
    model.update(batch, noise)
    rows = th.cat([log_prob[0], log_prob[1, :3]])
    th.testing.assert_close(model.log_ent_coef.grad, -(rows - ACT).mean()[None], atol=1e-5, rtol=1e-5)
