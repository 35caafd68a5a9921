"""CARE: attention over encoders, trained by the critics, with embeddings that are learned or given."""

import json

import numpy as np
import pytest
import torch as th

from qmp_sb3 import QMP, MultiTaskSAC
from qmp_sb3.networks.care import ContextualEncoder
from tests.qmp_sb3.algorithms.literal_networks import encoding
from tests.qmp_sb3.objectives.test_objectives import TASKS, make_batch, make_noise
from tests.qmp_sb3.small_models import drifts, make

ROWS = np.random.default_rng(0).normal(size=(TASKS, 4)).astype(np.float32)


def encoder(model: MultiTaskSAC) -> ContextualEncoder:
    return model.critic.network.common["encoder"]


def test_attention_sums_to_one_and_encodings_are_its_mixtures():
    part, states = encoder(make(networks="care(encoders=3)")), th.randn(TASKS, 5, 3)
    _, attention = part.task_context()
    assert attention.shape == (TASKS, 3) and (attention > 0).all()
    th.testing.assert_close(attention.sum(dim=1), th.ones(TASKS))
    encoded, every = part(states), part.every(states[0])
    for task in range(TASKS):
        for row in range(5):
            expected, shares = encoding(part, task, states[task, row])
            th.testing.assert_close(attention[task], shares)
            th.testing.assert_close(encoded[task, row], expected, atol=1e-6, rtol=1e-4)
            th.testing.assert_close(every[task, row], encoding(part, task, states[0, row])[0], atol=1e-6, rtol=1e-4)


def test_the_critics_train_the_encoders_and_the_actor_does_not():
    model = make(networks="care", task_weights="mean")
    part, batch = encoder(model), make_batch()
    losses = model.actor.action_log_prob(batch.observations, make_noise()[0])[1].mean(dim=1)
    model._set_gradient(model.actor.flat, losses, th.ones(TASKS))
    assert part.flat.flat.grad is None and model.actor.flat.flat.grad.abs().max() > 0
    outputs = model.actor.network(batch.observations).sum()
    gradients = th.autograd.grad(outputs, list(part.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients), "the actor reads encodings as constants"
    losses = model.critic(batch.observation_actions).square().mean(dim=(0, 2))
    model._set_gradient(model.critic.flat, losses, th.ones(TASKS))
    assert all(parameter.grad.abs().max() > 0 for parameter in part.parameters())


def test_the_attention_reads_the_context_as_a_constant():
    part = encoder(make(networks="care"))
    _, attention = part.task_context()
    gradients = th.autograd.grad(attention[:, 0].sum(), list(part.parameters()), allow_unused=True)
    trained = {id(parameter) for parameter in part.attention.parameters()}
    for parameter, gradient in zip(part.parameters(), gradients, strict=True):
        assert (gradient is not None) == (id(parameter) in trained)


def test_both_critics_read_the_same_encodings():
    model = make(networks="care")
    assert model.critic.network.perceptron.copies == 2 and encoder(model).encoders.copies == 1


@pytest.mark.parametrize("kind", [".npy", ".json", "rows"])
def test_a_given_table_is_used_and_stays(kind, tmp_path):
    path = tmp_path / f"table{kind}"
    if kind == ".npy":
        np.save(path, ROWS)
    elif kind == ".json":
        path.write_text(json.dumps(ROWS.tolist()))
    given = ROWS.tolist() if kind == "rows" else str(path)
    model = make(networks=f"care(embedding={given!r})").learn(120)
    for module in (model.critic, model.critic_target):
        np.testing.assert_array_equal(module.network.common["encoder"].embedding, ROWS)
    assert not any(parameter.shape == ROWS.shape for parameter in encoder(model).parameters())
    context = encoder(model).task_context()[0]
    assert (context[0] - context[1]).abs().max() > 0
    with th.no_grad():
        encoder(model).embedding[0] += 1.0
    assert not th.equal(encoder(model).task_context()[0][0], context[0]), "the table is what is read"
    model.save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=drifts(), device="cpu")
    th.testing.assert_close(encoder(loaded).embedding, encoder(model).embedding)


def test_a_saved_model_needs_no_file_of_its_table(tmp_path):
    file = tmp_path / "known.json"
    file.write_text(json.dumps(ROWS.tolist()))
    model = make(networks=f"care(embedding={str(file)!r})")
    model.save(tmp_path / "expert")
    pupil = make(behavior=f"also(argmax(q), [load({str(tmp_path / 'expert')!r})])")
    pupil.save(tmp_path / "pupil")
    expected, states = encoder(model).embedding, th.randn(4, 3)
    file.unlink()
    loaded = QMP.load(tmp_path / "expert", env=drifts(), device="cpu")
    th.testing.assert_close(encoder(loaded).embedding, expected)
    [group] = pupil.behavior.fixed_policies()
    (tmp_path / "expert.zip").unlink()
    [again] = QMP.load(tmp_path / "pupil", env=drifts(), device="cpu").behavior.fixed_policies()
    assert th.equal(again.mean_actions(states), group.mean_actions(states))


def test_a_learned_table_learns():
    model = make(networks="care(embedding=6)")
    before = encoder(model).embedding.detach().clone()
    model.update(make_batch(), make_noise())
    assert before.shape == (TASKS, 6) and not th.equal(encoder(model).embedding, before)


def test_tables_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "long.npy", np.zeros((5, 4)))
    np.save(tmp_path / "nan.npy", np.full((3, 4), np.nan))
    (tmp_path / "ragged.json").write_text("[[1, 2], [1], [2, 3]]")
    for embedding, message in (
        (str(tmp_path / "absent.npy"), "absent.npy'\\): there is no such file"),
        (str(tmp_path), "there is no such file; it is an .npy or a .json"),
        (str(tmp_path / "long.npy"), r"shape \(5, 4\); 3 tasks need 3 rows"),
        (str(tmp_path / "nan.npy"), "not finite"),
        (str(tmp_path / "ragged.json"), "all of one length"),
        ([[1.0, 2.0]], r"shape \(1, 2\); 3 tasks need 3 rows"),
        ([1.0, 2.0, 3.0], r"shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            make(networks=f"care(embedding={embedding!r})")
