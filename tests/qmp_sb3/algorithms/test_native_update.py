"""The compiled updates are PyTorch's: same draws, same numbers, same state, whichever comes first."""

import logging
from copy import deepcopy
from dataclasses import asdict, dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env
from qmp_sb3.algorithms import native_support
from qmp_sb3.algorithms.native_update import NativeUpdate
from qmp_sb3.native import library, unavailable

REASON = unavailable()
native = pytest.mark.skipif(REASON is not None, reason=f"no compiled library: {REASON}")
SETS = [] if REASON else library.INSTRUCTION_SETS[: library.load().processor_best() + 1]


@dataclass
class Case:
    """What the equality of the two paths could depend on; one of them differs from the default in each case."""

    tasks: int = 3
    batch: int = 7
    observations: int = 3
    actions: int = 2
    hidden: tuple[int, ...] = (17, 33)
    activation: type[nn.Module] = nn.Tanh
    n_critics: int = 2
    ent_coef: str | float | tuple[float, ...] = "auto"
    task_weights: str = "sum"
    target_update_interval: int = 1
    threads: int = 1
    instruction_set: str | None = None
    seed: int = 0

    def __str__(self) -> str:
        usual = asdict(Case())
        return ", ".join(f"{key}={value}" for key, value in asdict(self).items() if value != usual[key]) or "usual"

    def model(self, backend: str) -> MultiTaskSAC:
        """A model of PyTorch's default type, with a filled replay buffer."""

        class Spaces(gym.Env):
            observation_space = spaces.Box(-1.0, 1.0, (self.observations,), np.float32)
            action_space = spaces.Box(-1.0, 1.0, (self.actions,), np.float32)

            def reset(self, *, seed=None, options=None):
                return np.zeros(self.observation_space.shape, np.float32), {}

        model = MultiTaskSAC(
            "MlpPolicy",
            make_multitask_vec_env([Spaces() for _ in range(self.tasks)]),
            seed=self.seed,
            buffer_size=50,
            device="cpu",
            learning_rate=1e-3,
            ent_coef=list(self.ent_coef) if isinstance(self.ent_coef, tuple) else self.ent_coef,
            task_weights=self.task_weights,
            target_update_interval=self.target_update_interval,
            num_threads=None,
            policy_kwargs=dict(net_arch=list(self.hidden), activation_fn=self.activation, n_critics=self.n_critics),
        )
        model.backend = backend
        model.num_threads = self.threads  # of the native updates; PyTorch's are the process's and stay
        model._native.instruction_set = self.instruction_set
        model.set_logger(Logger(None, []))
        if th.get_default_dtype() == th.float64:
            keep_doubles(model)
        fill(model)
        return model


def fill(model: MultiTaskSAC) -> None:
    buffer, rng = model.replay_buffer, np.random.default_rng(1)
    buffer.table[:] = rng.normal(size=buffer.table.shape)
    buffer.actions[:] = np.tanh(buffer.actions)
    continuations = buffer.table[..., -3]
    continuations[:] = rng.choice([0.0, 1.0, 0.99], continuations.shape)  # 0.99: a sum of two rewards
    buffer.sizes[:] = buffer.written[:] = len(buffer.table)


def keep_doubles(model: MultiTaskSAC) -> None:
    """The replay buffer is made for float32; with it, nothing else rounds to that."""
    table = model.replay_buffer.rows
    table.values = table.values.astype(np.float64)
    table._flat = table.values.reshape(-1, table.shape[-1])
    table._rows = th.from_numpy(table._flat)
    model.replay_buffer._keep_in(table)


@pytest.fixture
def double():
    th.set_default_dtype(th.float64)
    yield
    th.set_default_dtype(th.float32)


in_double = pytest.mark.usefixtures("double")


def numbers(model: MultiTaskSAC) -> th.Tensor:
    """All that is learned, and the state of the optimizers."""
    found = [part.flat.flat.detach() for part in (model.actor, model.critic, model.critic_target)]
    for optimizer in (model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer):
        if optimizer is not None:
            [state] = optimizer.state.values()
            found += [state["exp_avg"], state["exp_avg_sq"], state["step"].reshape(1)]
    found.append(model.temperature)
    return th.cat([part.double().reshape(-1) for part in found])


def difference(one: MultiTaskSAC, other: MultiTaskSAC) -> float:
    return (numbers(one) - numbers(other)).abs().max().item()


def trained(model: MultiTaskSAC, batch: int, steps: int, calls: int = 10) -> MultiTaskSAC:
    for _ in range(calls):
        model.train(steps // calls, batch)
    return model


CASES = [
    Case(),
    Case(activation=nn.ReLU),
    Case(batch=1),
    Case(batch=32),
    Case(batch=64, hidden=(64, 64)),
    Case(tasks=1),
    Case(tasks=5, threads=2),
    Case(observations=39, actions=4),
    Case(hidden=(5,)),
    Case(hidden=()),
    Case(hidden=(16, 8, 24, 1)),
    Case(n_critics=1),
    Case(n_critics=3, activation=nn.ReLU),
    Case(ent_coef=0.2),
    Case(ent_coef=(0.1, 0.2, 0.3)),
    Case(task_weights="mean"),
    Case(target_update_interval=3),
    *(Case(instruction_set=name) for name in SETS),
    *(Case(instruction_set=name, activation=nn.ReLU, batch=33, hidden=(40, 40)) for name in SETS),
]


@native
@in_double
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_hundred_steps_give_the_same_numbers(case: Case) -> None:
    general = trained(case.model("torch"), case.batch, 100)
    compiled = trained(case.model("native"), case.batch, 100)
    assert (general.temperature - case.model("torch").temperature).abs().min() > 0.01 or case.ent_coef != "auto"
    assert difference(general, compiled) < 1e-10
    assert compiled.logger.name_to_value == pytest.approx(general.logger.name_to_value, rel=1e-5, abs=1e-6)


@native
@pytest.mark.parametrize("name", [None, *SETS])
@pytest.mark.parametrize("batch", [32, 100])
def test_the_same_in_float(name: str | None, batch: int) -> None:
    case = Case(batch=batch, instruction_set=name)
    general = trained(case.model("torch"), batch, 100)
    compiled = trained(case.model("native"), batch, 100)
    assert difference(general, compiled) < 1e-4


@native
@in_double
def test_the_paper_s_sizes() -> None:
    case = Case(batch=256, hidden=(256, 256), observations=15, actions=6)
    general, compiled = (trained(case.model(backend), 256, 4, calls=2) for backend in ("torch", "native"))
    assert difference(general, compiled) < 1e-10


@native
@pytest.mark.parametrize("scale,error", [(1e-3, 1e-5), (1.0, 1e-5), (30.0, 1e-3)])
@pytest.mark.parametrize("name", SETS)
def test_elementary_functions_are_as_exact_as_float_is(name: str, scale: float, error: float) -> None:
    """Also far from the usual: saturated units and actions, log standard deviations at both limits."""
    case = Case(batch=50, instruction_set=name)
    values = []
    for backend in ("torch", "native"):
        model = case.model(backend)
        with th.no_grad():
            for parameter in model.actor.parameters():
                parameter *= scale
        model.train(1, 50)
        values.append(model.logger.name_to_value)
    assert values[1] == pytest.approx(values[0], rel=error)


@native
@in_double
def test_the_number_of_threads_changes_nothing() -> None:
    one, three = (trained(Case(tasks=5, threads=threads).model("native"), 7, 30, calls=3) for threads in (1, 3))
    assert th.equal(numbers(one), numbers(three))


@native
def test_a_seed_gives_the_same_training() -> None:
    def run(backend: str) -> QMP:
        return QMP(
            "MlpPolicy",
            "QMP/Point2D-v0",
            seed=3,
            learning_starts=40,
            batch_size=16,
            train_freq=4,
            gradient_steps=2,
            policy_kwargs=dict(net_arch=[32, 32], activation_fn=nn.Tanh),
            device="cpu",
            backend=backend,
        ).learn(800)

    general, compiled = run("torch"), run("native")
    assert general._n_updates == compiled._n_updates > 50
    assert general.behavior.counts.tolist() == compiled.behavior.counts.tolist()
    assert difference(general, compiled) < 1e-4


# ---- one path after the other ----


@native
@in_double
def test_paths_can_alternate() -> None:
    case = Case()
    general, mixed = case.model("torch"), case.model("auto")
    for backend in ("auto", "torch", "native", "torch", "auto"):
        mixed.backend = backend
        assert mixed.update_backend == ("torch" if backend == "torch" else "native")
        trained(general, 7, 10, calls=1)
        trained(mixed, 7, 10, calls=1)
    assert difference(general, mixed) < 1e-10


@native
@pytest.mark.parametrize("first,then", [("torch", "native"), ("native", "torch")])
def test_a_saved_model_goes_on_with_the_other_path(tmp_path, first: str, then: str) -> None:
    case = Case()
    model = trained(case.model(first), 7, 10, calls=1)
    model.save(tmp_path / "model")
    loaded = MultiTaskSAC.load(tmp_path / "model", env=model.env, backend=then, device="cpu")
    assert loaded.backend == then and loaded.update_backend == then
    assert difference(model, loaded) == 0.0
    loaded.set_logger(Logger(None, []))
    fill(loaded)
    trained(model, 7, 10, calls=1)
    trained(loaded, 7, 10, calls=1)
    assert difference(model, loaded) < 1e-5


@native
@in_double
def test_nothing_that_moves_the_numbers_is_missed() -> None:
    case = Case()
    general, compiled = case.model("torch"), case.model("native")
    for model in (general, compiled):
        trained(model, 7, 10, calls=1)
        parameters = deepcopy(model.get_parameters())
        model.policy.float().double()
        trained(model, 7, 10, calls=1)
        model.set_parameters(parameters)
        model.learning_rate = 5e-3
        model._setup_lr_schedule()
        trained(model, 7, 10, calls=1)
    copies = [deepcopy(model) for model in (general, compiled)]
    for model in copies:
        keep_doubles(model)
        trained(model, 7, 10, calls=1)
    assert difference(general, compiled) < 1e-10 < difference(compiled, copies[1])
    assert difference(*copies) < 1e-10


@native
@in_double
def test_a_task_without_data_is_left_to_pytorch_until_it_has_some() -> None:
    case = Case()
    general, compiled = case.model("torch"), case.model("native")
    for model in (general, compiled):
        model.replay_buffer.sizes[1] = 0
        trained(model, 7, 10, calls=1)
        model.replay_buffer.sizes[1] = 5
        trained(model, 7, 10, calls=1)
    assert difference(general, compiled) < 1e-10


# ---- who computes ----


def small(**arguments) -> MultiTaskSAC:
    policy_kwargs = {"net_arch": [8]} | arguments.pop("policy_kwargs", {})
    settings = dict(device="cpu", buffer_size=50, policy_kwargs=policy_kwargs)
    return MultiTaskSAC("MlpPolicy", "QMP/Point2D-v0", **settings | arguments)


class Reverse(MultiTaskSAC):
    def update(self, batch, noise):
        return super().update(batch, -noise)


REFUSED = {
    "networks": (dict(networks="shared"), "SharedMLP"),
    "critic": (dict(networks={"actor": "independent", "critic": "decaf"}), "critic's networks are DecafMixture"),
    "activation": (dict(policy_kwargs=dict(activation_fn=nn.ELU)), "ELU"),
    "depth": (dict(policy_kwargs=dict(net_arch=[4] * 17)), "18 layers; 16"),
    "gradients": (dict(gradients="pcgrad"), "gradients='pcgrad'"),
    "regularizer": (dict(regularizer="dnc(0.1)"), "regularizer=dnc"),
    "weights": (dict(task_weights="alpha"), "task_weights='alpha'"),
    "temperatures": (dict(temperatures="shared"), "temperatures='shared'"),
    "replay": (dict(replay="pool"), "replay=pool"),
    "optimizer": (dict(policy_kwargs=dict(optimizer_class=th.optim.SGD)), "SGD is not Adam"),
    "decay": (dict(policy_kwargs=dict(optimizer_kwargs=dict(weight_decay=0.1))), "weight_decay=0.1"),
    "amsgrad": (dict(policy_kwargs=dict(optimizer_kwargs=dict(amsgrad=True))), "amsgrad=True"),
}


@native
@pytest.mark.parametrize("arguments,word", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_computed_by_pytorch_and_named(arguments: dict, word: str) -> None:
    model = small(**deepcopy(arguments))
    assert model.update_backend == "torch" and word in model.backend_note
    with pytest.raises(ValueError, match="backend='native' cannot compute this model's updates.*backend='auto'"):
        small(**deepcopy(arguments), backend="native")


@native
def test_a_subclass_with_its_own_update_is_asked() -> None:
    settings = dict(policy_kwargs={"net_arch": [8]}, buffer_size=50, device="cpu")
    assert Reverse("MlpPolicy", "QMP/Point2D-v0", **settings).backend_note == "Reverse.update is not MultiTaskSAC's"


@native
def test_a_lower_precision_is_left_to_pytorch() -> None:
    before = th.get_float32_matmul_precision()
    try:
        assert "matmul_precision='medium'" in small(matmul_precision="medium").backend_note
        assert small(matmul_precision="highest").backend_note is None
    finally:
        th.set_float32_matmul_precision(before)


@native
def test_normalized_observations_are_left_to_pytorch() -> None:
    env = VecNormalize(make_multitask_vec_env("QMP/Point2D-v0"), norm_reward=False)
    model = MultiTaskSAC("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=50, device="cpu")
    assert "VecNormalize" in model.backend_note


@native
@pytest.mark.parametrize("module", ["actor", "critic"])
def test_a_run_that_has_diverged_is_seen_to_have(module: str) -> None:
    case = Case()
    losses = []
    for backend in ("torch", "native"):
        model = case.model(backend)
        with th.no_grad():
            getattr(model, module).network.biases[-1][0] = th.nan  # of task 0, its first critic's
        sums = model.steps(1, 7) if backend == "torch" else model._native.steps(model, 1, 7)
        losses.append(sums.isnan().numpy())
    assert losses[0].any() and not losses[0].all()
    assert (losses[0] == losses[1]).all()


@native
def test_both_can_be_asked_for() -> None:
    assert small().update_backend == "native" and small().backend_note is None
    assert small(backend="torch").update_backend == "torch"
    assert small(backend="torch").backend_note == "backend='torch'"


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'native'"):
        small(backend="nativ")


def test_without_the_library_pytorch_computes_and_one_line_is_logged(monkeypatch, caplog, tmp_path) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library._opened.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, logger="qmp_sb3"):
            models = [small(learning_starts=20).learn(60) for _ in range(2)]
        assert len(caplog.records) == 1 and "it was not built" in caplog.text
        assert all(model.update_backend == "torch" and "it was not built" in model.backend_note for model in models)
        assert all(model._n_updates > 0 for model in models)
        with pytest.raises(ValueError, match="it was not built"):
            small(backend="native")
    finally:
        library._opened.cache_clear()


@native
def test_instruction_sets_and_layers_are_those_of_the_code() -> None:
    header = (library.FOLDER / "src" / "processor.h").read_text()
    assert f"enum {{ {', '.join(library.INSTRUCTION_SETS)}, ".upper() in header.upper()
    assert f"MAX_LAYERS = {native_support.MAX_LAYERS} " in (library.FOLDER / "src" / "update.h").read_text()
    assert deepcopy(NativeUpdate("avx2")).instruction_set == "avx2"
