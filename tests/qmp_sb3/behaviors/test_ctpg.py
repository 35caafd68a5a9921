"""CTPG's guide: how it acts, its gates and its expressions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch as th

from qmp_sb3 import MultiTaskSAC, presets
from qmp_sb3.behaviors import Argmax, Guide, QScore, parse_behavior
from qmp_sb3.behaviors.gates import FILTERS, filtered, hot, masked
from qmp_sb3.common.task_layout import TaskLayout
from tests.qmp_sb3.behaviors.test_behaviors import TASKS as CANDIDATES
from tests.qmp_sb3.behaviors.test_behaviors import make_proposals, started
from tests.qmp_sb3.small_models import drifts, make

QUICK = "guide(steps=4, filter_from=20, block_every=25, learn_every=2)"
TASKS = 3


def trained(behavior: str = QUICK, steps: int = 240, **kwargs) -> MultiTaskSAC:
    return make(behavior=behavior, **kwargs).learn(steps)


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
            outputs = policy.actor.network(state, of)[0, 0, 0]
            mean, log_std = policy.actor.head.parameters(outputs)
            for sample in range(3):
                action = th.tanh(mean + log_std.exp() * noise[sample, slot])
                q = policy.critic(th.cat([state[0, 0], action])[None, None], of).mean()
                alpha = proposals.temperature()[task]
                expected[slot] += (q - alpha * policy.actor.head.log_prob(outputs, action)) / 3
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


# ---- expressions and refusals ----


@pytest.mark.parametrize(
    "expression",
    [
        "guide",
        "guide(steps=5, hindsight=False, filter='veto')",
        "guide(filter='none', filter_from=0, block='success', block_every=100, net_arch=[8, 8])",
        "also(guide(learn_every=2, segments=32), [gaussian([1.0, 0.0], [0.3, 0.3])])",
        "warmup(100, guide)",
    ],
)
def test_a_guide_is_its_expression(expression):
    assert repr(parse_behavior(expression)) == expression
    assert repr(parse_behavior("guide(steps=5.0, segments=1e2)")) == "guide(steps=5, segments=100)"


@pytest.mark.parametrize(
    "expression, message",
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
def test_wrong_expressions_are_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        parse_behavior(expression)


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
