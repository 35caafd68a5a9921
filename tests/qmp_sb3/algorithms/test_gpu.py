"""On a graphics card: the same numbers as on the CPU, and no step of an update for which the host waits."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from torch import nn

from qmp_sb3 import QMP, MultiTaskSAC
from qmp_sb3.replay.tables import DeviceTable, HostTable
from tests.qmp_sb3.small_models import drifts, equal, make, weights

pytestmark = pytest.mark.gpu

PARTS = {
    "default": {},
    "pool": dict(replay="pool", task_weights="mean", networks="shared", temperatures="shared"),
    "onehot": dict(networks="onehot", task_weights="alpha", ent_coef=0.2),
    "pcgrad": dict(networks="multihead", gradients="pcgrad"),
    "decaf": dict(networks={"actor": "independent", "critic": "decaf"}),
    "soft modules": dict(networks="soft_modules(layers=3)", task_weights="alpha"),
    "paco": dict(networks="paco", hooks=["maskout"], task_weights="taskmean"),
    "care": dict(networks="care", replay="pool", task_weights="mean"),
    "care, pcgrad": dict(networks="care", gradients="pcgrad"),
    "shared unique": dict(networks="shared_unique", hooks=["triplet"], replay="pool"),
    "dnc": dict(regularizer="dnc(0.1)"),
    "uds": dict(sharing="uds(0.5, -1)"),
    "n steps": dict(n_steps=3),
    "clipped": dict(max_grad_norm=0.1, max_temperature=1.0, reward_scale=0.5),
    "guide": dict(behavior="guide(steps=4, learn_every=2)"),
    "rows in memory": dict(replay_buffer_kwargs=dict(storage="memory")),
}
#: the next draw needs the errors of the update before it, so the host waits for these
WAITING = {"per": dict(replay="pool", draw="per"), "ta-per": dict(replay="mass", draw="per", task_weights="mean")}
each_part = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)


def pair(parts: dict, folder: Path) -> tuple[MultiTaskSAC, MultiTaskSAC]:
    """A model that has learned on the CPU, and the same on the graphics card."""
    cpu = make(cls=MultiTaskSAC, policy_kwargs={"activation_fn": nn.Tanh}, **parts).learn(120)
    cpu.save(folder / "model")
    cpu.save_replay_buffer(folder / "replay")
    cuda = MultiTaskSAC.load(folder / "model", env=drifts(), device="cuda")
    cuda.load_replay_buffer(folder / "replay")
    return cpu, cuda


@pytest.mark.parametrize("parts", (PARTS | WAITING).values(), ids=PARTS | WAITING)
def test_updates_are_those_of_the_cpu(parts, tmp_path):
    cpu, cuda = pair(parts, tmp_path)
    before, sums = weights(cuda), [model.steps(20, 8).cpu() for model in (cpu, cuda)]
    th.testing.assert_close(*sums, atol=1e-3, rtol=1e-3)
    assert not equal(before, weights(cuda))
    for (name, one), other in zip(weights(cpu).items(), weights(cuda).values(), strict=True):
        assert other.is_cuda
        th.testing.assert_close(one, other.cpu(), atol=1e-3, rtol=1e-3, msg=name)


@each_part
def test_the_host_waits_for_no_update(parts, tmp_path):
    _, cuda = pair(parts, tmp_path)
    cuda.steps(2, 8)  # what is made once, is made
    th.cuda.synchronize()
    th.cuda.set_sync_debug_mode("error")
    try:
        sums = cuda.steps(5, 8)
    finally:
        th.cuda.set_sync_debug_mode("default")
    assert th.isfinite(sums).all()


def test_storing_waits_for_nothing(tmp_path):
    _, cuda = pair({}, tmp_path)
    buffer = cuda.replay_buffer
    zeros = np.zeros((3, 3), np.float32), np.zeros((3, 3), np.float32), np.zeros((3, 2), np.float32)
    th.cuda.set_sync_debug_mode("error")
    try:
        buffer.add(*zeros, np.arange(3.0), np.zeros(3, bool), [{}] * 3)
    finally:
        th.cuda.set_sync_debug_mode("default")
    assert buffer.table[buffer.positions[0] - 1, :, -4].tolist() == [0.0, 1.0, 2.0]


def test_rows_are_on_the_card_unless_told_otherwise():
    assert isinstance(make(device="cuda").replay_buffer.rows, DeviceTable)
    assert isinstance(make(device="cuda", replay_buffer_kwargs=dict(storage="memory")).replay_buffer.rows, HostTable)
    with pytest.raises(ValueError, match=r"GB of memory on cuda; buffer_size=[\d,]+ fits"):
        make(device="cuda", buffer_size=10**11, replay_buffer_kwargs=dict(storage="device"))


@pytest.mark.parametrize("there, back", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
@pytest.mark.parametrize("hooks", [[], ["distill(60, 5)"]], ids=str)
def test_learning_goes_on_on_another_device(there, back, hooks, tmp_path):
    model = make(cls=QMP, device=there, hooks=hooks).learn(120)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = QMP.load(tmp_path / "model", env=drifts(), device=back)
    loaded.load_replay_buffer(tmp_path / "replay")
    assert loaded.replay_buffer.device.type == back and loaded.policy.device.type == back
    batch = [one.replay_buffer.rows.first(one.replay_buffer.size()) for one in (model, loaded)]
    np.testing.assert_array_equal(*batch)
    observations = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    acts = [one.predict(observations, deterministic=True)[0] for one in (model, loaded)]
    np.testing.assert_allclose(*acts, atol=1e-5)
    before = weights(loaded)
    loaded.learn(60, reset_num_timesteps=False)
    assert not equal(before, weights(loaded))


@pytest.mark.parametrize("storage", ["device", "memory"])
def test_a_guide_learns_as_on_the_cpu_and_goes_back_there(storage, tmp_path):
    behavior = "guide(steps=4, filter_from=0, block='none', learn_every=2)"
    cpu, cuda = pair(dict(behavior=behavior, replay_buffer_kwargs=dict(storage=storage)), tmp_path)
    for model in (cpu, cuda):
        model.behavior._waiting = 4
        model.behavior.learn(model)
    for name, one in cpu.behavior.networks.flat.items():
        other = cuda.behavior.networks.flat[name].flat
        assert other.is_cuda
        th.testing.assert_close(one.flat, other.cpu(), atol=1e-3, rtol=1e-3, msg=name)
    cuda.learn(120, reset_num_timesteps=False)
    cuda.save(tmp_path / "from the card")
    back = MultiTaskSAC.load(tmp_path / "from the card", env=drifts(), device="cpu")
    th.testing.assert_close(back.behavior.networks.temperature, cuda.behavior.networks.temperature.cpu())
    back.learn(60, reset_num_timesteps=False)


def test_policies_of_a_saved_model_act_on_the_card(tmp_path):
    make().save(tmp_path / "expert")
    expression = f"also(argmax(q), [load({str(tmp_path / 'expert.zip')!r})])"
    model = make(behavior=expression, device="cuda").learn(120)
    [group] = model.behavior.fixed_policies()
    assert group.actor.flat.flat.is_cuda
    model.save(tmp_path / "model")
    QMP.load(tmp_path / "model", env=drifts(), device="cpu").learn(60)
