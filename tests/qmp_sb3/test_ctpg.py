"""CTPG's guide: how it acts, what it learns from, and what its equations say."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from qmp_sb3 import MultiTaskSAC, presets
from qmp_sb3.behaviors import Argmax, Guide, QScore, parse_behavior
from qmp_sb3.behaviors.gates import FILTERS, filtered, hot, masked
from qmp_sb3.behaviors.guide_learning import learn_from, likeliest, targets
from qmp_sb3.distributions import split_parameters, squashed_log_prob
from qmp_sb3.layout import TaskLayout
from qmp_sb3.objectives.discrete_sac import entropy, hindsight, segment_target, state_value, target_entropy
from qmp_sb3.replay import Batch, RowFormat, Segments
from tests.qmp_sb3.small_models import drifts, equal, make, weights
from tests.qmp_sb3.test_behaviors import TASKS as CANDIDATES
from tests.qmp_sb3.test_behaviors import make_proposals, started

QUICK = "guide(steps=4, filter_from=20, block_every=25, learn_every=2)"
TASKS = 3


def trained(behavior: str = QUICK, steps: int = 240, **kwargs) -> MultiTaskSAC:
    return make(behavior=behavior, **kwargs).learn(steps)


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

    def own_policy(states, tasks):
        return th.cat([th.zeros(*states.shape[:2], 1), th.full((*states.shape[:2], 1), -2.0)], dim=-1)[None]

    model = SimpleNamespace(
        actor=SimpleNamespace(network=own_policy),
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


# ---- gates ----


def test_a_masked_candidate_has_probability_zero_and_is_never_drawn():
    """Discrepancy X22: the released code forgets the mask."""
    logits = th.tensor([[5.0, 0.0, 1.0], [0.0, 0.0, 50.0], [1.0, 2.0, 3.0]], dtype=th.float64)
    passes = th.tensor([[False, True, True], [True, True, False], [False, False, False]])
    own = th.tensor([0, 0, 1])
    probabilities = filtered(masked, logits, passes, own)
    assert (probabilities[0, 0], probabilities[1, 2]) == (0.0, 0.0)
    th.testing.assert_close(probabilities[0, 1:], th.softmax(logits[0, 1:], dim=0))
    assert probabilities[2].tolist() == [0.0, 1.0, 0.0], "where none passes, the own policy acts"
    veto = filtered(FILTERS["veto"], logits, passes, own)
    th.testing.assert_close(veto[:2], th.softmax(logits[:2], dim=1))
    assert veto[2].tolist() == [0.0, 1.0, 0.0]


class Constant:
    """Networks that say the same in every state, ``(copies, candidates)``."""

    def __init__(self, values):
        self.values = th.tensor(values)

    def by_row(self, features, layout):
        return self.values[:, None].expand(-1, len(features), -1)


def with_networks(guide: Guide, logits, filter_values=((0.0,) * CANDIDATES,) * 2, slots: int = 8) -> Guide:
    guide.networks = SimpleNamespace(
        actor=Constant([logits]), modules={"filter_critic": Constant(filter_values)}, to=lambda device: None
    )
    return started(guide, slots)


@pytest.mark.parametrize("filter, shares", [("mask", [0.0, 0.5, 0.5, 0.0]), ("veto", [0.25] * 4), ("none", [0.25] * 4)])
def test_only_candidates_that_beat_the_own_value_are_followed(filter, shares):
    """The comparison is with the mean of the filter's critics: one of them alone would let candidate 3 pass."""
    values = ((-1e6, 1e6, 1e6, 1e6), (-1e6, 1e6, 1e6, -3e6))
    guide = with_networks(Guide(filter=filter, filter_from=5), [0.0] * 4, values, 20_000)
    with th.no_grad():
        guide(make_proposals(20_000, steps=20))
    np.testing.assert_allclose(guide.mixture().mean(axis=0), shares, atol=0.02)
    assert filter != "mask" or (guide.counts[:, [0, 3]] == 0).all()


def test_where_no_candidate_beats_the_own_value_the_own_policy_acts():
    for filter in ("mask", "veto"):
        guide = with_networks(Guide(filter=filter, filter_from=0), [0.0] * 4, ((-1e6,) * 4,) * 2)
        with th.no_grad():
            proposals = make_proposals()
            np.testing.assert_array_equal(guide(proposals), proposals.tasks)


@pytest.mark.parametrize("steps, filtered_now", [(39, False), (40, True)])
def test_the_filter_begins_after_so_many_steps_of_a_task(steps, filtered_now):
    guide = with_networks(Guide(filter_from=10), [50.0, 0, 0, 0], ((-1e6, 1e6, -1e6, -1e6),) * 2)
    with th.no_grad():
        chosen = guide(make_proposals(steps=steps))  # 4 tasks
    assert (chosen == int(filtered_now)).all()


def test_tasks_with_an_above_average_temperature_are_blocked():
    assert hot(np.log([0.1, 0.1, 0.4])).tolist() == [False, False, True]
    assert hot(np.log([0.5, 0.02, 0.5])).tolist() == [True, False, True]
    for tasks in (1, 3, 7, 10, 50):
        assert not hot(np.full(tasks, np.log(0.3), dtype=np.float32)).any(), "equal temperatures block nobody"


def test_a_blocked_task_acts_by_itself_from_its_next_episode_on():
    guide = with_networks(Guide(steps=1, filter="none"), [0.0, 0.0, 0.0, 50.0])
    proposals = make_proposals()
    assert (guide(proposals) == 3).all()
    guide.blocked = np.array([True, True, False, False])
    assert (guide(proposals) == 3).all(), "its episode goes on as it began"
    ended = np.arange(8) < 5  # of slot 5, which is of task 1, not
    guide.ended(ended)
    own = guide.blocked[proposals.tasks] & ended
    np.testing.assert_array_equal(guide(proposals), np.where(own, proposals.tasks, 3))
    guide.blocked[:] = False
    guide.ended(np.ones(8, dtype=bool))
    assert (guide(proposals) == 3).all()


def test_blocked_tasks_give_the_guide_no_samples(monkeypatch):
    model = trained()
    buffer, asked = model.replay_buffer, []
    inner = buffer.segments
    monkeypatch.setattr(buffer, "segments", lambda *args: (asked.append(args), inner(*args))[1])
    for blocked in ([False, True, False], [True, True, False], [False] * 3, [True] * 3):
        model.behavior.blocked, model.behavior._waiting = np.array(blocked), 2
        model.behavior.learn(model)
    shares = [(tasks.tolist(), segments) for tasks, segments, *_ in asked]
    assert shares == [([0, 2], 12), ([2], 24), ([0, 1, 2], 8)], "the same number, divided among the others"


def test_who_is_blocked_is_found_anew_every_so_many_steps(monkeypatch):
    seen = []
    monkeypatch.setitem(
        __import__("qmp_sb3.behaviors.gates", fromlist=["BLOCKS"]).BLOCKS,
        "temperature",
        lambda model: (seen.append(model.num_timesteps), np.zeros(3, dtype=bool))[1],
    )
    trained(steps=360)  # updates every 12 environment steps, periods of 75
    assert seen == [84, 156, 228, 300]


def test_success_as_the_measure_of_mastery():
    model = trained(QUICK.replace("steps=4", "steps=4, block='success'"))
    assert not model.behavior.blocked.any(), "these tasks have no success"
    for name, rate in zip(model.task_names, (0.5, 0.9, 1.0), strict=True):
        episodes = model.statistics._episodes[model.task_names.index(name)]["success_any"]
        episodes.extend([1.0] * round(10 * rate) + [0.0] * round(10 * (1 - rate)))
    model.behavior._periods = -1
    model.behavior.learn(model)
    assert model.behavior.blocked.tolist() == [False, True, True]
    assert not trained(QUICK.replace("steps=4", "steps=4, block='none'")).behavior.blocked.any()


# ---- acting ----


class Asked:
    """The guide's logits are the Q-switch's scores, divided by a temperature near 0."""

    def __init__(self, proposals):
        self.proposals = proposals

    def by_row(self, features, layout):
        return QScore()(self.proposals)[None].double() / 1e-9


def test_deciding_in_every_step_by_q_without_gates_is_the_q_switch():
    guide = started(Guide(steps=1, filter="none", block="none"))
    switch = started(Argmax(QScore()))
    for seed in range(5):
        proposals, same = make_proposals(seed=seed), make_proposals(seed=seed)
        guide.networks = SimpleNamespace(actor=Asked(proposals), to=lambda device: None)
        with th.no_grad():
            np.testing.assert_array_equal(guide(proposals), switch(same))


def test_a_decision_holds_for_k_steps_or_to_the_end_of_the_episode():
    guide, proposals = with_networks(Guide(steps=3), [0.0] * 4, slots=200), make_proposals(200)
    first = guide(proposals).copy()
    assert guide.staged()["segment_start"].all() and not guide.staged()["segment_start"].any()
    np.testing.assert_array_equal(guide(proposals), first)
    assert not guide.staged()["segment_start"].any()
    ended = np.arange(200) < 100
    guide.ended(ended)
    third = guide(proposals).copy()
    np.testing.assert_array_equal(third[~ended], first[~ended])
    assert (third[ended] != first[ended]).any()
    staged = guide.staged()
    np.testing.assert_array_equal(staged["segment_start"], ended)
    np.testing.assert_array_equal(staged["chosen"], third)
    assert (guide(proposals)[~ended] != first[~ended]).any()
    np.testing.assert_array_equal(guide.staged()["segment_start"], ~ended)


def test_the_guide_is_asked_for_the_slots_that_are_due_each_with_its_task():
    """As one slot at a time would be asked."""
    model = trained()
    guide = model.behavior
    with th.no_grad():
        states, tasks = th.randn(7, 3), np.array([2, 0, 1, 1, 2, 0, 2])
        actor, filter_ = guide.networks.actor, guide.networks.modules["filter_critic"]
        together = [net.by_row(states, TaskLayout(tasks, TASKS)) for net in (actor, filter_)]
        for slot, task in enumerate(tasks):
            alone = [net(states[slot][None, None], th.tensor([task]))[:, 0, 0] for net in (actor, filter_)]
            for one, other in zip(alone, together, strict=True):
                th.testing.assert_close(one, other[:, slot])
    assert together[0].std(dim=1).min() > 1e-4 and together[0].shape == (1, 7, TASKS)


def test_the_own_value_is_the_soft_value_of_the_own_policy():
    proposals = make_proposals(40)
    noise = th.randn(3, 40, 2, generator=th.Generator().manual_seed(0))
    with th.no_grad():
        values = proposals.own_values(proposals.features, proposals.layout, 3)
        policy, expected = proposals.policy, th.zeros(40)
        for slot, task in enumerate(proposals.tasks):
            state, of = proposals.features[slot][None, None], th.tensor([task])
            mean, log_std = split_parameters(policy.actor.network(state, of)[0, 0, 0])
            for sample in range(3):
                action = th.tanh(mean + log_std.exp() * noise[sample, slot])
                q = policy.critic(th.cat([state[0, 0], action])[None, None], of).mean()
                alpha = proposals.temperature()[task]
                expected[slot] += (q - alpha * squashed_log_prob(mean, log_std, action)) / 3
    th.testing.assert_close(values, expected, atol=1e-3, rtol=1e-3)


def test_nobody_is_guided_in_random_steps_and_evaluation_asks_the_own_policy():
    model = make(behavior=QUICK, learning_starts=240).learn(240)
    assert model.replay_buffer.whole_segments().tolist() == [0, 0, 0] and model.behavior.counts.sum() == 0
    model = trained()
    observations = model.get_env().reset()
    expected = model.predict(observations, deterministic=True)[0]
    with th.no_grad():
        for flat in model.behavior.networks.flat.values():
            flat.flat.normal_()
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], expected)


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


# ---- sentences and refusals ----


@pytest.mark.parametrize(
    "sentence",
    [
        "guide",
        "guide(steps=5, hindsight=False, filter='veto')",
        "guide(filter='none', filter_from=0, block='success', block_every=100, net_arch=[8, 8])",
        "also(guide(learn_every=2, segments=32), [gaussian([1.0, 0.0], [0.3, 0.3])])",
        "warmup(100, guide)",
    ],
)
def test_a_guide_is_its_sentence(sentence):
    assert repr(parse_behavior(sentence)) == sentence


@pytest.mark.parametrize(
    "sentence, message",
    [
        ("guide(steps=0)", r"guide\(steps=0\): it must be a whole number, at least 1"),
        ("guide(learn_every=1.5)", "learn_every=1.5"),
        ("guide(filter='masked')", "did you mean 'mask'"),
        ("guide(block='temperatur')", "did you mean 'temperature'"),
        ("guide(tau=0)", r"tau lies in \(0, 1\]"),
        ("guide(max_temperature=-1)", "max_temperature is positive"),
        ("guide(step=3)", r"unexpected keyword argument 'step'; it is guide\(steps, hindsight"),
        ("hold(5, guide)", "learns from the steps that it directs itself; leave hold out"),
        ("own(0.7, guide)", "leave own out"),
        ("argmax(guide)", "needs a score"),
        ("giude", "did you mean 'guide'"),
        ("also(guide, [guide])", "adds fixed policies"),
    ],
)
def test_wrong_sentences_are_refused(sentence, message):
    with pytest.raises(ValueError, match=message):
        parse_behavior(sentence)


def test_models_that_a_guide_does_not_suit_are_refused():
    with pytest.raises(ValueError, match="sums the rewards of its segments itself; n_steps is 3, use 1"):
        make(behavior="guide", n_steps=3)
    with pytest.raises(ValueError, match="all tasks have the"):
        make(behavior="guide", networks="shared")
    with pytest.raises(ValueError, match="ctpg and qmp both decide|qmp and ctpg both decide"):
        presets.method("qmp+ctpg")
    other = trained()
    with pytest.raises(ValueError, match="has learned with n_tasks=3|has learned with candidates=3"):
        make(env=drifts(tasks=2), behavior=other.behavior)
