"""What CTPG's guide learns, and the guide as a part of a model."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from qmp_sb3 import MultiTaskSAC, presets
from qmp_sb3.behaviors.guide_learning import learn_from, likeliest, targets
from qmp_sb3.objectives.discrete_sac import entropy, hindsight, segment_target, state_value, target_entropy
from qmp_sb3.policies.action_heads import SquashedGaussian
from qmp_sb3.replay import Batch, RowFormat, Segments
from tests.qmp_sb3.behaviors.test_ctpg import QUICK, TASKS, trained
from tests.qmp_sb3.small_models import drifts, equal, make, weights

# ---- equations, by hand ----

EVERY = th.ones(3, dtype=th.bool)
CUT = th.tensor([True, True, False])


@pytest.mark.parametrize(
    "continuations, present, expected",
    [
        ([1.0, 1.0, 1.0], EVERY, 1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 8))),
        ([1.0, 0.0, 0.0], CUT, 1 + 0.5 * 2),  # terminal after two rows: nothing follows
        ([1.0, 1.0, 1.0], CUT, 1 + 0.5 * (2 + 0.5 * 8)),  # a time limit after two rows: the value there follows
        ([1.0, 1.0, 0.0], EVERY, 1 + 0.5 * (2 + 0.5 * 4)),
        ([0.0, 1.0, 1.0], EVERY, 1.0),
    ],
)
def test_a_segments_target_stops_where_its_episode_does(continuations, present, expected):
    target = segment_target(th.tensor([1.0, 2.0, 4.0]), th.tensor(continuations), present, th.tensor(8.0), 0.5)
    assert target.item() == expected


def test_the_value_of_a_state_is_the_expectation_over_the_candidates():
    probabilities = th.tensor([0.25, 0.75])
    values = th.tensor([[4.0, 8.0], [6.0, 0.0]])  # the smaller critic's: 4 and 0
    soft = state_value(values, probabilities.log(), 2.0).item()
    spread = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert soft == pytest.approx(0.25 * 4 + 2.0 * spread)
    assert state_value(values, probabilities.log(), 0.0).item() == pytest.approx(1.0)
    assert entropy(probabilities.log()).item() == pytest.approx(spread)
    assert target_entropy(4) == pytest.approx(0.98 * np.log(4))


class Tables:
    """Guide networks that are tables over two states, one task and two candidates."""

    PI = th.tensor([[0.5, 0.5], [0.2, 0.8]])  # (states, candidates)
    GUIDE = th.tensor([[[1.0, 2.0], [3.0, 4.0]], [[2.0, 1.0], [5.0, 2.0]]])  # (critics, states, candidates)
    FILTER = th.tensor([[[7.0, 7.0], [10.0, 20.0]], [[7.0, 7.0], [20.0, 10.0]]])

    def __init__(self):
        def table(values):
            return lambda states, tasks: values[:, states[..., 0].long()]

        self.actor = table(self.PI.log()[None])
        self.modules = {"critic_target": table(self.GUIDE), "filter_target": table(self.FILTER)}
        self.temperature = th.tensor([0.5])


def tabular_segments() -> Segments:
    """One task, two segments of two steps: one whole, from state 0 over 0 to 1; one that ends in a terminal state."""
    form = RowFormat(1, 1)
    rows = th.zeros(1, 2, 2, form.width)
    rows[0, 0, :, form.next_observation] = th.tensor([[0.0], [1.0]])
    rewards, continuations = th.tensor([[[1.0, 2.0], [3.0, 3.0]]]), th.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    present = th.tensor([[[True, True], [True, False]]])
    return Segments(np.array([0]), Batch(rows, form, rewards, continuations), present)


def test_the_targets_of_a_tabular_guide():
    """Both Bellman targets, with numbers that can be checked by hand; the own policy is N(0, e^-2), squashed."""

    def action_log_prob(states, noise, tasks):
        outputs = th.cat([th.zeros(*states.shape[:2], 1), th.full((*states.shape[:2], 1), -2.0)], dim=-1)
        return SquashedGaussian(1).sample_log_prob(outputs, noise)

    model = SimpleNamespace(
        policy=SimpleNamespace(actor=SimpleNamespace(action_log_prob=action_log_prob)),
        temperature=th.tensor([0.1]),
        reward_scale=10.0,
        gamma=0.5,
        streams=SimpleNamespace(guide=th.Generator().manual_seed(0)),
    )
    guide, filter_ = targets(Tables(), tabular_segments(), model, None)
    # V^g(1) = 0.2 min(3, 5) + 0.8 min(4, 2) + 0.5 H; V^c(1) = 0.2 * 10 + 0.8 * 10
    value = 0.2 * 3 + 0.8 * 2 - 0.5 * (0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert guide[0].tolist() == pytest.approx([10 + 0.5 * (20 + 0.5 * value), 30.0])
    noise = th.randn(4, generator=th.Generator().manual_seed(0))
    std = np.exp(-2.0)
    action = th.tanh(std * noise)
    log_prob = -0.5 * noise**2 + 2.0 - 0.5 * np.log(2 * np.pi) - th.log(1 - action**2 + 1e-6)
    bonus = -0.1 * log_prob
    expected = [10 + bonus[0] + 0.5 * (20 + bonus[1] + 0.5 * 10), 30 + bonus[2]]
    assert filter_[0].tolist() == pytest.approx([float(one) for one in expected], rel=1e-5)


# ---- hindsight ----


def separate(model: MultiTaskSAC) -> None:
    """Policies whose mean actions are far apart."""
    with th.no_grad():
        for parameter in model.actor.parameters():
            parameter.zero_()
        for task, mean in enumerate(([1.0, 1.0], [-1.0, 1.0], [0.0, -1.0])):
            model.actor.network.biases[-1][task, 0] = th.tensor([*mean, -1.5, -1.5])


@pytest.mark.parametrize("filter", ["mask", "none"])
def test_hindsight_returns_the_candidate_that_acted(filter):
    model = make(behavior=f"guide(steps=4, filter={filter!r})", learning_starts=10_000, warmup_actions="policy")
    separate(model)
    model.learn(600)
    segments = model.replay_buffer.segments(np.arange(TASKS), 60, 4)
    assert th.equal(likeliest(model, segments), segments.chosen)
    assert len(segments.chosen.unique()) == TASKS


def test_rows_that_are_not_there_do_not_count_in_hindsight():
    log_probs = th.tensor([[-1.0, -2.0], [0.0, 99.0]])  # (steps, candidates)
    assert hindsight(log_probs, th.tensor([True, False])).item() == 0
    assert hindsight(log_probs, th.tensor([True, True])).item() == 1


def test_without_hindsight_the_stored_choice_is_learned_from(monkeypatch):
    def forbidden(*args):
        raise AssertionError("nobody asked for hindsight")

    monkeypatch.setattr("qmp_sb3.behaviors.guide_learning.likeliest", forbidden)
    assert trained(QUICK.replace("steps=4", "steps=4, hindsight=False")).behavior._waiting < 2
    with pytest.raises(AssertionError, match="hindsight"):
        trained()


# ---- learning ----


@pytest.mark.parametrize("blocked", [(), (1,)])
def test_an_update_is_the_one_that_the_equations_say(blocked):
    """By plain autograd, Adam on each network, and the losses as loops over tasks."""
    model = trained(QUICK.replace("steps=4", "steps=4, hindsight=False"), max_grad_norm=0.05)
    guide, tasks = model.behavior, [task for task in range(TASKS) if task not in blocked]
    segments = model.replay_buffer.segments(np.array(tasks), 6, 4)
    given = None if len(tasks) == TASKS else th.tensor(tasks)
    mine, literal = guide.networks, deepcopy(guide.networks)
    generator = model.streams.guide.get_state()
    goals = targets(literal, segments, model, given)
    states, choice = segments.first_observations, segments.chosen
    for name, goal in (("critic", goals[0]), ("filter_critic", goals[1])):
        loss = 0.0
        for block, task in enumerate(tasks):
            for critic in range(2):
                values = literal.modules[name](states[[block]], th.tensor([task]))[critic, 0]
                picked = values[th.arange(6), choice[block]]
                loss = loss + 0.5 * ((picked - goal[block]) ** 2).mean() / len(tasks)
        step(literal, name, loss)
    loss, spread = 0.0, []
    for block, task in enumerate(tasks):
        log_probs = literal.actor(states[[block]], th.tensor([task]))[0, 0].log_softmax(dim=-1)
        with th.no_grad():
            smaller = literal.modules["critic"](states[[block]], th.tensor([task]))[:, 0].amin(dim=0)
        alpha = literal.log_temperature[task].detach().exp()
        loss = loss + (log_probs.exp() * (alpha * log_probs - smaller)).sum(dim=-1).mean() / len(tasks)
        spread.append(-(log_probs.exp() * log_probs).sum(dim=-1).mean().detach())
    step(literal, "actor", loss)
    literal.optimizers["temperature"].zero_grad()
    log_alpha = literal.log_temperature[th.tensor(tasks)]
    (log_alpha * (th.stack(spread) - 0.98 * np.log(3))).mean().backward()
    th.nn.utils.clip_grad_norm_([literal.log_temperature], 0.05)
    literal.optimizers["temperature"].step()
    literal.polyak_(0.01)

    model.streams.guide.set_state(generator)
    before = {name: flat.flat.detach().clone() for name, flat in mine.flat.items()}
    losses = learn_from(mine, segments, model, guide.settings)
    assert losses.shape == (6, len(tasks)) and losses.isfinite().all()
    for name, flat in mine.flat.items():
        assert not th.equal(flat.flat, before[name]), name
        th.testing.assert_close(flat.flat, literal.flat[name].flat, atol=1e-6, rtol=1e-4)
    th.testing.assert_close(mine.log_temperature, literal.log_temperature.clamp(max=0.0))


def step(networks, name: str, loss: th.Tensor) -> None:
    networks.flat[name].flat.grad = th.cat(
        [one.flatten() for one in th.autograd.grad(loss, networks.flat[name].parameters)]
    )
    th.nn.utils.clip_grad_norm_([networks.flat[name].flat], 0.05)
    networks.optimizers[name].step()


def test_temperatures_of_the_guide_stay_below_their_bound():
    model = trained(learning_rate=0.05)
    with th.no_grad():
        model.behavior.networks.log_temperature += 5.0
    model.behavior._waiting = 2
    model.behavior.blocked[:] = False
    model.behavior.learn(model)
    assert (model.behavior.networks.temperature <= 1.0).all()
    lower = make(behavior="guide(max_temperature=0.05)").behavior.networks.temperature
    th.testing.assert_close(lower, th.full((TASKS,), 0.05))


@pytest.mark.parametrize("train_freq, updates", [(1, 48), (8, 48), (3, 48)])
def test_it_learns_once_in_so_many_vector_steps(monkeypatch, train_freq, updates):
    count = []
    monkeypatch.setattr(
        "qmp_sb3.behaviors.guide.learn_from", lambda *args: (count.append(1), th.zeros(6, len(args[1].tasks)))[1]
    )
    make(behavior=QUICK, train_freq=train_freq).learn(24 + 3 * 2 * updates)
    assert abs(len(count) - updates) <= 4


def test_steps_before_the_first_update_are_not_made_up_for(monkeypatch):
    count = []
    monkeypatch.setattr(
        "qmp_sb3.behaviors.guide.learn_from", lambda *args: (count.append(1), th.zeros(6, len(args[1].tasks)))[1]
    )
    make(behavior=QUICK, learning_starts=600, warmup_actions="policy").learn(624)
    assert 0 < len(count) <= 6


def test_what_is_learned_is_logged():
    values = trained().logger.name_to_value
    measures = ("critic_loss", "filter_loss", "actor_loss", "ent_coef_loss", "ent_coef", "entropy")
    assert all(np.isfinite(values[f"train/guide_{measure}"]) for measure in measures)
    assert 0.0 <= values["train/guide_blocked"] < 1.0
    assert values["train/guide_entropy"] <= np.log(3) + 1e-6
    assert any(key.startswith("train/to ") and key.endswith("guide_entropy") for key in values)


def test_a_guide_finds_out_which_fixed_policy_reaches_the_goal():
    """The 2D point: one fixed policy goes towards the goal, two go away from it."""
    candidates = "[gaussian([-1, -1], 0.1), gaussian([1, 1], 0.1), gaussian([-1, 0], 0.1)]"
    guide = "guide(steps=5, filter='none', learn_every=2, segments=32, max_temperature=0.05)"
    model = presets.make(
        "no-sharing",
        "QMP/Point2D-v0",
        behavior=f"also({guide}, {candidates})",
        learning_rate=0.003,
        train_freq=20,
        seed=0,
        device="cpu",
    )
    model.learn(500)
    before = model.behavior.counts.copy()
    model.learn(100, reset_num_timesteps=False)
    shares = (model.behavior.counts - before)[0] / 100
    assert shares.shape == (4,) and shares[2] > max(shares[1], shares[3]) + 0.2


# ---- as part of a model ----


def guide_numbers(model: MultiTaskSAC) -> list[th.Tensor]:
    networks = model.behavior.networks
    states = [one.state_dict()["state"] for one in networks.optimizers.values()]
    moments = [value for state in states for one in state.values() for value in one.values()]
    return [*(flat.flat.detach() for flat in networks.flat.values()), networks.log_temperature.detach(), *moments]


@pytest.mark.parametrize("kwargs", [dict(), dict(networks="onehot", replay="pool"), dict(copies=2)], ids=str)
def test_a_saved_model_goes_on_to_the_last_bit(tmp_path, kwargs):
    copies = kwargs.pop("copies", 1)
    model = trained(env=drifts(copies=copies), **kwargs)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = type(model).load(tmp_path / "model", env=drifts(copies=copies), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert repr(loaded.behavior) == QUICK
    for one, other in zip(guide_numbers(model), guide_numbers(loaded), strict=True):
        assert th.equal(one, other)
    for one in (model, loaded):
        one.set_env(drifts(copies=copies))
        one.get_env().seed(3)
        one.learn(240, reset_num_timesteps=False)
    assert equal(weights(model), weights(loaded))
    np.testing.assert_array_equal(model.replay_buffer.table, loaded.replay_buffer.table)
    for one, other in zip(guide_numbers(model), guide_numbers(loaded), strict=True):
        assert th.equal(one, other)


def test_a_run_can_be_repeated_and_its_start_is_that_of_other_methods():
    one, other, plain = trained(), trained(), make()
    assert equal(weights(one), weights(other))
    for mine, theirs in zip(guide_numbers(one), guide_numbers(other), strict=True):
        assert th.equal(mine, theirs)
    assert equal(weights(make(behavior="guide")), weights(plain)), "the guide's weights have a stream of their own"


def test_building_and_copying_a_guide_draws_no_global_random_numbers():
    model = trained()
    before = th.random.get_rng_state()
    deepcopy(model.behavior)
    assert th.equal(th.random.get_rng_state(), before)


def test_a_model_takes_a_guide_and_gives_it_up(tmp_path):
    make().learn(60).save(tmp_path / "plain")
    guided = type(make()).load(tmp_path / "plain", env=drifts(), behavior=QUICK, device="cpu").learn(200)
    assert guided.replay_buffer.whole_segments().min() > 0
    guided.save(tmp_path / "guided")
    guided.save_replay_buffer(tmp_path / "buffer")
    plain = type(guided).load(tmp_path / "guided", env=drifts(), behavior="argmax(q)", device="cpu")
    plain.load_replay_buffer(tmp_path / "buffer")
    plain.learn(100, reset_num_timesteps=False)
    later = type(guided).load(tmp_path / "plain", behavior=QUICK, device="cpu")  # without an environment
    later.set_env(drifts())
    later.learn(200)
    assert later.behavior.networks is not None and later.replay_buffer.whole_segments().min() > 0
    with pytest.raises(ValueError, match="lacks the columns chosen"):
        make().save_replay_buffer(tmp_path / "without")
        guided.load_replay_buffer(tmp_path / "without")


def test_one_task_alone_has_nothing_to_choose():
    model = make("one task", behavior=QUICK).learn(60)
    assert model.behavior.counts.tolist() == [[50]] and model._n_updates > 0


def test_normalized_observations_and_shared_data():
    model = make(env=VecNormalize(drifts(), norm_reward=False), behavior=QUICK, sharing="uds(0, -2)").learn(240)
    assert all(one.isfinite().all() for one in guide_numbers(model))
