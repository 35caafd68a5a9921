"""Whose policy acts: scores, rules, wrappers, and their expressions."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

import qmp_envs
from qmp_sb3.behaviors import (
    Also,
    Argmax,
    Behavior,
    FixedGaussian,
    Hold,
    Own,
    Proposals,
    QScore,
    Softmax,
    Table,
    Warmup,
    parse_behavior,
)
from qmp_sb3.behaviors.domain_knowledge import shared_segments
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.policies import MultiTaskPolicy

TASKS, OBS, ACT = 4, 3, 2
TEMPERATURES = th.tensor([0.1, 0.4, 0.02, 1.0])
MIXED = [("multihead", "independent"), ("independent", "decaf"), ("onehot", "shared")]  # families of actor and critic
MIXED += [
    ("soft_modules(variant='ctpg')", "soft_modules"),
    ("paco", "shared_unique"),
    ("independent", "care"),
    ("care", "care"),
]


def make_policy(seed: int = 0, networks: str | dict[str, str] = "independent") -> MultiTaskPolicy:
    return MultiTaskPolicy(
        spaces.Box(-1, 1, (OBS,)),
        spaces.Box(-1, 1, (ACT,)),
        lambda _: 1e-3,
        n_tasks=TASKS,
        networks=networks,
        net_arch=[16],
        generator=th.Generator().manual_seed(seed),
    )


def make_proposals(slots: int = 8, seed: int = 0, tasks: np.ndarray | None = None, policy=None, steps=0) -> Proposals:
    tasks = np.arange(slots) % TASKS if tasks is None else tasks
    return Proposals(
        make_policy(seed) if policy is None else policy,
        th.from_numpy(np.random.default_rng(seed).normal(size=(len(tasks), OBS)).astype(np.float32)),
        TaskLayout(tasks, TASKS),
        lambda: TEMPERATURES,
        np.random.default_rng(seed),
        th.Generator().manual_seed(seed),
        num_timesteps=steps,
    )


def started(behavior: Behavior, slots: int = 8) -> Behavior:
    behavior.bind(TASKS)
    behavior.start(TASKS, slots)
    return behavior


class ScoresOf:
    """A score that is a given matrix (tasks, candidates)."""

    def __init__(self, matrix):
        self.matrix = th.as_tensor(matrix, dtype=th.float32)

    def __call__(self, proposals):
        return self.matrix[proposals.layout.tasks_tensor]


# ---- the Q-switch ----


def looped_q(proposals: Proposals, reduce=lambda qs: qs[0]) -> np.ndarray:
    """Scores by a plain loop over slots and candidates, one at a time."""
    policy, scores = proposals.policy, np.zeros((len(proposals.features), TASKS))
    with th.no_grad():
        for slot, task in enumerate(proposals.tasks):
            for candidate in range(TASKS):
                state = proposals.features[slot][None]
                hidden = th.relu(
                    state @ policy.actor.network.weights[0][candidate] + policy.actor.network.biases[0][candidate]
                )
                out = hidden @ policy.actor.network.weights[1][candidate] + policy.actor.network.biases[1][candidate]
                joined = th.cat([state, th.tanh(out[:, :ACT])], dim=1)
                qs = []
                for k in range(2):
                    network = k * TASKS + task
                    weights, biases = policy.critic.network.weights, policy.critic.network.biases
                    hidden = th.relu(joined @ weights[0][network] + biases[0][network])
                    qs.append((hidden @ weights[1][network] + biases[1][network]).item())
                scores[slot, candidate] = reduce(qs)
    return scores


@pytest.mark.parametrize("tasks", [None, np.array([2, 2, 0, 3, 1, 2]), np.array([3, 3, 3])], ids=str)
@pytest.mark.parametrize("critic, reduce", [("first", lambda q: q[0]), ("min", min), ("mean", np.mean)])
def test_q_score_equals_a_loop_over_slots_and_candidates(tasks, critic, reduce):
    proposals = make_proposals(tasks=tasks)
    scores = QScore(critic=critic)(proposals).detach().numpy()
    np.testing.assert_allclose(scores, looped_q(proposals, reduce), atol=1e-6)


@pytest.mark.parametrize("tasks", [None, np.array([2, 2, 0, 3, 1, 2]), np.array([3, 3, 3])], ids=str)
@pytest.mark.parametrize(
    "networks",
    ["independent", "multihead", "onehot", *({"actor": a, "critic": c} for a, c in MIXED)],
    ids=lambda networks: networks if isinstance(networks, str) else "-".join(networks.values()),
)
def test_the_q_switch_asks_every_family_as_one_slot_and_candidate_would(networks, tasks):
    """Each pair of a state and an action is scored by the slot's own critic: nothing is misaligned (X7)."""
    policy, generator = make_policy(networks=networks), th.Generator().manual_seed(0)
    with th.no_grad():  # some families begin with tasks that hardly differ
        for parameter in policy.parameters() if "care" in str(networks) or "soft" in str(networks) else ():
            parameter.normal_(0.0, parameter.shape[-2] ** -0.5, generator=generator)
    proposals = make_proposals(tasks=tasks, policy=policy)
    expected = np.zeros((len(proposals.features), TASKS))
    with th.no_grad():
        for slot, candidate in np.ndindex(*expected.shape):
            state, task = proposals.features[slot][None, None], th.tensor([proposals.tasks[slot]])
            action = th.tanh(policy.actor(state, th.tensor([candidate]))[0])
            expected[slot, candidate] = policy.critic(th.cat([state, action], dim=-1), task)[0].item()
        scores = QScore()(proposals).numpy()
    np.testing.assert_allclose(scores, expected, atol=3e-6)
    assert np.ptp(expected, axis=1).min() > 1e-4, "the candidates differ"
    chosen = started(Argmax(QScore()), len(scores))(proposals)
    np.testing.assert_array_equal(chosen, expected.argmax(axis=1))
    assert (expected[np.arange(len(chosen)), chosen] >= expected[np.arange(len(chosen)), proposals.tasks]).all()
    with th.no_grad():  # and the chosen candidate's policy acts
        means = policy.actor.head.mean_actions(policy.actor.every(proposals.features))
        acted = proposals.act(chosen, deterministic=True)
    th.testing.assert_close(acted, means[chosen, np.arange(len(chosen))])


def test_argmax_picks_the_looped_argmax_and_never_less_than_the_own_policy():
    proposals = make_proposals(40)
    chosen = started(Argmax(QScore()), 40)(proposals)
    scores = looped_q(proposals)
    np.testing.assert_array_equal(chosen, scores.argmax(axis=1))
    rows = np.arange(40)
    assert (scores[rows, chosen] >= scores[rows, proposals.tasks]).all()


def test_identical_policies_tie_and_the_first_is_chosen():
    policy = make_policy()
    with th.no_grad():
        for parameter in policy.actor.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    assert (started(Argmax(QScore()))(make_proposals(policy=policy)) == 0).all()


def test_sampled_scores_approach_the_expectation_and_entropy_adds_the_bonus():
    proposals = make_proposals(4)
    with th.no_grad():
        many = QScore(samples=4000)(proposals)
        again = QScore(samples=4000)(make_proposals(4, seed=0))
        bonus = QScore(samples=4000, entropy=True)(make_proposals(4)) - many
        actions, log_prob = make_proposals(4).sampled_actions(4000)
    assert th.allclose(many, again), "the same generator state gives the same scores"
    # the same draws, so the difference is the Monte Carlo entropy times the alpha of the slot's task exactly
    alpha = TEMPERATURES[proposals.layout.tasks_tensor][:, None]
    th.testing.assert_close(bonus, -alpha * log_prob.mean(dim=0), atol=1e-4, rtol=1e-4)
    assert actions.abs().max() <= 1.0


def test_entropy_alone_draws_ten_samples():
    proposals, explicit = make_proposals(4), make_proposals(4)
    with th.no_grad():
        scores = QScore(entropy=True)(proposals), QScore(samples=10, entropy=True)(explicit)
    assert th.equal(*scores)


# ---- rules ----


def test_softmax_has_the_probabilities_of_the_equation():
    scores = [[0.0, 1.0, 2.0, -1.0]] * TASKS
    behavior = started(Softmax(0.7, ScoresOf(scores)), 40_000)
    behavior(make_proposals(40_000))
    expected = np.exp(np.array(scores[0]) / 0.7)
    np.testing.assert_allclose(behavior.mixture()[0], expected / expected.sum(), atol=0.015)


def test_softmax_becomes_argmax_when_the_temperature_falls():
    cold = started(Softmax(1e-6, QScore()))(make_proposals())
    np.testing.assert_array_equal(cold, started(Argmax(QScore()))(make_proposals()))


@pytest.mark.parametrize("name, matrix", [("self", np.eye(TASKS)), ("uniform", np.full((TASKS, TASKS), 0.25))])
def test_named_tables(name, matrix):
    behavior = started(Table(name), 20_000)
    behavior(make_proposals(20_000))
    np.testing.assert_allclose(behavior.mixture(), matrix, atol=0.03)


def test_table_rows_are_followed_and_checked():
    matrix = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0.2, 0.3, 0.5], [1, 0, 0, 0]])
    behavior = started(Table(matrix), 40_000)
    behavior(make_proposals(40_000))
    np.testing.assert_allclose(behavior.mixture(), matrix, atol=0.02)
    with pytest.raises(ValueError, match="sum to"):
        Table(matrix * 0.9).bind(TASKS)
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        Table(np.eye(3)).bind(TASKS)


def test_domain_table_of_the_reacher_is_the_printed_matrix():
    task_set = qmp_envs.make_task_set("QMP/MultistageReacher-v0")
    printed = np.array(
        [
            [2 / 3, 1 / 3, 0, 0, 0],
            [1 / 3, 2 / 3, 0, 0, 0],
            [0, 0, 5 / 6, 1 / 6, 0],
            [0, 0, 1 / 6, 5 / 6, 0],
            [0, 0, 0, 0, 1],
        ]
    )
    np.testing.assert_allclose(shared_segments(task_set.subgoals), printed)
    behavior = Table("domain")
    behavior.bind(5, task_set)
    np.testing.assert_allclose(behavior.matrix, printed)


def test_domain_needs_subgoals():
    with pytest.raises(ValueError, match="needs the subgoals"):
        Table("domain").bind(10, qmp_envs.make_task_set("QMP/Maze-v0"))


# ---- wrappers ----


def test_hold_keeps_a_choice_for_h_steps_and_renews_it_where_an_episode_ends():
    behavior = started(Hold(3, Table("uniform")), 200)
    slots = np.arange(200)
    proposals = make_proposals(200)
    first, second = behavior(proposals).copy(), behavior(proposals).copy()
    np.testing.assert_array_equal(first, second)
    behavior.ended(slots < 100)
    third = behavior(proposals).copy()
    np.testing.assert_array_equal(third[100:], first[100:])
    assert (third[:100] != first[:100]).any()
    fourth = behavior(proposals).copy()  # the untouched slots decide anew after three steps, the others have two left
    np.testing.assert_array_equal(fourth[:100], third[:100])
    assert (fourth[100:] != first[100:]).any()


def test_hold_one_is_no_hold():
    held, plain = started(Hold(1, Table("uniform"))), started(Table("uniform"))
    one, other = make_proposals(), make_proposals()
    for _ in range(5):
        np.testing.assert_array_equal(held(one), plain(other))


@pytest.mark.parametrize("probability, share", [(1.0, 1.0), (0.0, 0.25), (0.7, 0.7 + 0.3 * 0.25)])
def test_own_acts_itself_with_its_probability(probability, share):
    behavior = started(Own(probability, Table("uniform")), 20_000)
    behavior(make_proposals(20_000))
    np.testing.assert_allclose(np.diag(behavior.mixture()), share, atol=0.03)


def test_warmup_is_self_before_and_the_rule_after():
    behavior = started(Warmup(100, Table(np.roll(np.eye(TASKS), 1, axis=1))))
    early, late = make_proposals(steps=99), make_proposals(steps=100)
    np.testing.assert_array_equal(behavior(early), early.tasks)
    np.testing.assert_array_equal(behavior(late), (late.tasks + 1) % TASKS)


def test_fixed_candidates_follow_the_trained_ones_and_act_as_given():
    policies = [FixedGaussian([1.0, 0.0], 1e-6), FixedGaussian([0.0, -1.0], 1e-6)]
    wins_last = ScoresOf(np.tile(np.arange(TASKS + 2), (TASKS, 1)))
    behavior = started(Also(Argmax(wins_last), policies))
    proposals = make_proposals()
    chosen = behavior(proposals)
    assert (chosen == TASKS + 1).all()
    th.testing.assert_close(proposals.act(chosen), th.tensor([[0.0, -1.0]]).expand(8, 2), atol=1e-4, rtol=0)
    assert behavior.counts.shape == (TASKS, TASKS + 2)
    with th.no_grad():
        assert QScore()(proposals).shape == (8, TASKS + 2)
        assert QScore(samples=5, entropy=True)(proposals).shape == (8, TASKS + 2)


def test_fixed_actions_are_clipped_and_spread_as_told():
    policy = FixedGaussian([0.5, -0.5], 0.1)
    actions = policy.sample(th.randn(20_000, 2, generator=th.Generator().manual_seed(0)))
    th.testing.assert_close(actions.std(dim=0), th.tensor([0.1, 0.1]), atol=0.01, rtol=0)
    assert FixedGaussian([1.0, 1.0], 5.0).sample(th.randn(100, 2)).abs().max() <= 1.0


# ---- acting ----


def test_act_samples_from_the_chosen_policy():
    """Computed from all proposals, or from the chosen policies only: the same distribution parameters and noise."""
    lazy, full = make_proposals(), make_proposals()
    chosen = np.array([0, 3, 2, 1, 1, 1, 2, 0])
    with th.no_grad():
        full.mean_actions()
        th.testing.assert_close(lazy.act(chosen), full.act(chosen))
        mean, _ = lazy.policy.actor.head.parameters(lazy.policy.actor.every(lazy.features))
        expected = th.tanh(mean[chosen, np.arange(8)])
        th.testing.assert_close(lazy.act(chosen, deterministic=True), expected)


def test_a_held_choice_acts_anew_in_every_step():
    behavior, proposals = started(Hold(5, Table("uniform"))), make_proposals()
    with th.no_grad():
        mean, log_std = proposals.policy.actor.head.parameters(proposals.policy.actor.every(proposals.features))
        first, second = (behavior(proposals).copy() for _ in range(2))
        actions = [proposals.act(chosen) for chosen in (first, second)]
    np.testing.assert_array_equal(first, second)
    assert ((actions[0] - actions[1]).abs() > 1e-6).all()
    for action in actions:  # each is one of the held policy
        noise = (action.atanh() - mean[first, np.arange(8)]) / log_std[first, np.arange(8)].exp()
        assert noise.abs().max() < 5.0


def test_counts_say_who_acted_for_whom():
    behavior = started(Argmax(ScoresOf(np.eye(TASKS)[[1, 1, 3, 0]])))
    proposals = make_proposals()
    for _ in range(5):
        behavior(proposals)
    np.testing.assert_array_equal(behavior.counts, 10 * np.eye(TASKS, dtype=int)[[1, 1, 3, 0]])
    np.testing.assert_array_equal(behavior.mixture(), np.eye(TASKS)[[1, 1, 3, 0]])


# ---- expressions ----

EXPRESSIONS = [
    "self",
    "uniform",
    "domain",
    "argmax(q)",
    "argmax(q(samples=10))",
    "argmax(q(samples=10, entropy=True, critic='min'))",
    "softmax(0.5, q)",
    "hold(25, argmax(q))",
    "own(0.7, hold(10, argmax(q)))",
    "warmup(1000, argmax(q))",
    "table([[0.5, 0.5], [0.0, 1.0]])",
    "also(argmax(q), [gaussian([1.0, 0.0], [0.3, 0.3])])",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_behavior_is_its_expression(expression):
    behavior = parse_behavior(expression)
    assert repr(behavior) == expression
    assert repr(parse_behavior(repr(behavior))) == expression
    assert parse_behavior(behavior) is behavior


@pytest.mark.parametrize(
    "expression, message",
    [
        ("argmx(q)", "did you mean 'argmax'"),
        ("argmax(", "not of the form"),
        ("q", r"did you mean argmax\(q\)"),
        ("hold(argmax(q))", r"missing a required argument: 'inner'; it is hold\(steps, inner\)"),
        ("argmax", r"missing a required argument: 'score'; it is argmax\(score\)"),
        ("uniform(3)", r"too many positional arguments; it is uniform\(\)"),
        ("argmax(q(sample=3))", r"unexpected keyword argument 'sample'; it is q\(samples, entropy, critic\)"),
        ("argmax(q(critic=min))", "a text needs quotes, critic='min'"),
        ("hold(0, argmax(q))", "at least 1"),
        ("softmax(0, q)", "positive"),
        ("own(1.5, argmax(q))", r"\[0, 1\]"),
        ("argmax(q(critic='max'))", "'first'"),
        ("warmup(-1, self)", "negative"),
        ("table('unifrom')", "uniform"),
        ("__import__('os').system('true')", "no meaning"),
        ("also(argmax(q), [gaussian([2.0])])", r"\[-1, 1\]"),
    ],
)
def test_wrong_expressions_say_what_is_wrong(expression, message):
    with pytest.raises(ValueError, match=message):
        parse_behavior(expression)


@pytest.mark.parametrize("expression", [one for one in EXPRESSIONS if not one.startswith(("domain", "table", "also"))])
def test_every_expression_acts_through_ends_of_episodes(expression):
    behavior = started(parse_behavior(expression))
    for step in range(12):
        chosen = behavior(make_proposals(seed=step, steps=500 * step))
        assert chosen.shape == (8,) and chosen.min() >= 0 and chosen.max() < TASKS
        behavior.ended(np.arange(8) == step % 8)
    assert behavior.counts.sum() == 12 * 8
    behavior.restart(3)
    assert behavior(make_proposals(3)).shape == (3,)


@pytest.mark.parametrize("expression", ["hold(10, q)", "argmax(uniform)", "softmax(1, self)", "hold(2.5, self)"])
def test_parts_that_do_not_fit_are_refused_when_they_are_joined(expression):
    with pytest.raises(ValueError, match="wraps a behavior|needs a score|whole number"):
        parse_behavior(expression)


def test_own_asks_the_rule_inside_however_many_slots_there_are():
    """Otherwise a hold inside would age differently with one slot and with many."""
    single, several = started(Own(1.0, Hold(3, Table("uniform"))), 1), started(Own(1.0, Hold(3, Table("uniform"))))
    single(make_proposals(1)), several(make_proposals())
    assert single.inner._left.tolist() == [2] and set(several.inner._left) == {2}
