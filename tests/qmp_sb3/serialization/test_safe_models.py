"""Saved models, policies and replay buffers: no code runs when they are loaded, and nothing is lost."""

import base64
import io
import json
import pickle
import re
import sys
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch as th
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.save_util import save_to_pkl, save_to_zip_file
from stable_baselines3.common.utils import LinearSchedule

from qmp_sb3 import QMP, MultiTaskSAC
from qmp_sb3.behaviors import Argmax, Hold, LoadedPolicies, QScore, parse_behavior
from qmp_sb3.hooks import Hook
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.serialization import DamagedFile, UntrustedFile, read_tree, register, tags, write_tree
from qmp_sb3.serialization.encoding import Encoder
from qmp_sb3.serialization.models import read_model
from tests.qmp_sb3.methods.test_presets import METHODS, REACHER, small
from tests.qmp_sb3.small_models import drifts, equal, make, weights

_CODE = ("exec", "pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn")
_ran: list[str] = []
_watching = False


def _audit(event: str, arguments: tuple) -> None:
    # Python imports its own modules when it needs them; their code has the name of a file.
    imported = event == "exec" and not getattr(arguments[0], "co_filename", "<").startswith("<")
    if _watching and event in _CODE and not imported:
        _ran.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def no_code():
    """Python itself reports what is unpickled, evaluated or started inside."""
    global _watching
    _ran.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _ran, _ran


def test_the_watch_would_notice(tmp_path):
    for act in (lambda: pickle.loads(pickle.dumps(Path("x"))), lambda: exec("1"), lambda: eval("1")):
        with pytest.raises(AssertionError), no_code():
            act()


def quiet(model: MultiTaskSAC) -> MultiTaskSAC:
    model.set_logger(Logger(None, []))
    return model


# ------------------------------------------------------------------------------------- nothing runs, nothing is lost


def goes_on_alike(model: MultiTaskSAC, folder: Path, backend: str) -> None:
    """Save, load and update both: the same weights, losses and random numbers."""
    model.replay_buffer.flush()
    model.save(folder / "model")
    model.save_replay_buffer(folder / "replay")
    with no_code():
        loaded = type(model).load(folder / "model", env=REACHER, device="cpu", backend=backend)
        loaded.load_replay_buffer(folder / "replay")
    model.backend = backend
    model.policy.use_library(backend != "torch", model.num_threads)
    rows = np.random.default_rng(0).uniform(-1, 1, (5, *model.observation_space.shape)).astype(np.float32)
    for deterministic in (True, False):
        expected = model.predict(rows, deterministic=deterministic)[0]
        np.testing.assert_array_equal(loaded.predict(rows, deterministic=deterministic)[0], expected)
    with zipfile.ZipFile(folder / "model.zip") as archive:
        assert not re.search(r"qmp_(sb3|envs)\.|stable_baselines3\.|gymnasium\.", archive.read("data").decode()), (
            "no module has to stay where it is"
        )
    for one in (quiet(model), quiet(loaded)):
        one.train(3, one.batch_size)
    assert loaded.update_backend == model.update_backend
    assert equal(weights(model), weights(loaded))
    assert th.equal(model.temperature, loaded.temperature)
    assert str(model.get_parameters()) == str(loaded.get_parameters()), "the optimizers' states too"
    for name in ("behavior", "replay", "objective"):
        assert getattr(model.streams, name).random() == getattr(loaded.streams, name).random()
    assert (model._n_updates, repr(model.behavior)) == (loaded._n_updates, repr(loaded.behavior))


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_model_goes_on_as_if_it_had_never_been_saved(method, tmp_path):
    model = small(method).learn(200)
    assert model._n_updates > 0
    for backend in ["torch", *["native"] * (model.update_backend == "native")]:
        goes_on_alike(model, tmp_path, backend)


def test_files_hold_no_pickle(tmp_path):
    make(policy_kwargs={"activation_fn": th.nn.Tanh, "optimizer_class": th.optim.RMSprop}).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert {name for name in archive.namelist() if "." in name} == {
            "data.safetensors",
            "policy.safetensors",
            "actor.optimizer.safetensors",
            "critic.optimizer.safetensors",
            "ent_coef_optimizer.safetensors",
            "pytorch_variables.safetensors",
            "system_info.txt",
        }
        data = json.loads(archive.read("data"))
        archive.extract("policy.safetensors", tmp_path)
    assert '"pickle"' not in json.dumps(data)
    assert data["gamma"] == 0.99 and data["task_names"]["of"] == ["to -1", "to 0", "to 1"]
    assert data["policy_kwargs"]["activation_fn"]["is"] == "torch.nn.Tanh"
    assert load_file(tmp_path / "policy.safetensors").keys() == make().policy.state_dict().keys()


@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": LinearSchedule(1e-2, 1e-3, 0.5)},
        {"policy_kwargs": {"activation_fn": th.nn.ELU, "optimizer_class": th.optim.SGD}},
        {"ent_coef": [0.1, 0.2, 0.3], "target_entropy": -1.0},
        {"train_freq": (3, "step"), "n_steps": 3},
        {"replay_buffer_kwargs": {"handle_timeout_termination": False}},
        {"behavior": "also(own(0.5, softmax(0.1, q(entropy=True))), [gaussian([0.1, 0.2])])"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_the_constructor_can_name_needs_no_trust(given, tmp_path):
    model = make(**given).learn(60)
    model.save(tmp_path / "model", include=["replay_buffer"])
    with no_code():
        loaded = QMP.load(tmp_path / "model", env=drifts(), device="cpu")
    assert equal(weights(model), weights(loaded)) and repr(loaded.behavior) == repr(model.behavior)
    assert loaded.lr_schedule(0.7) == model.lr_schedule(0.7) and loaded.train_freq == model.train_freq
    np.testing.assert_array_equal(loaded.replay_buffer.table, model.replay_buffer.table)
    loaded.learn(60)


def test_experts_of_other_files_are_loaded_without_code(tmp_path):
    make(seed=7).save(tmp_path / "expert")
    with no_code():
        group = LoadedPolicies(tmp_path / "expert")
    assert group.count == 3


# ---------------------------------------------------------------------------------------------- a user's own classes


class Eager(th.nn.Module):
    """A user's activation."""

    def forward(self, inputs):
        return inputs.clamp(-2.0, 2.0)


class Contrary(Argmax):
    """A user's behavior."""

    def choose(self, proposals):
        return self.score(proposals).numpy(force=True).argmin(axis=1)


def halved(progress: float) -> float:
    """A user's schedule."""
    return 0.005 * progress


OWN = {
    "an activation": ({"policy_kwargs": {"activation_fn": Eager}}, r"policy_kwargs.activation_fn \(.*Eager\)"),
    "a schedule": ({"learning_rate": halved}, r"learning_rate \(.*halved\)"),
    "an activation within a part": (
        {"policy_kwargs": {"activation_fn": Eager}, "behavior": "guide"},
        r"behavior.networks.form.activation_fn \(.*Eager\), policy_kwargs.activation_fn \(.*Eager\)",
    ),
}


@pytest.mark.parametrize("what", OWN)
def test_a_users_own_is_named_and_needs_trust(what, tmp_path):
    given, named = OWN[what]
    model = make(**given).learn(60)
    model.save(tmp_path / "model")
    with no_code(), pytest.raises(UntrustedFile, match=f"model.zip: {named}: .*trust=True"):
        QMP.load(tmp_path / "model", device="cpu")
    with no_code(), pytest.raises(UntrustedFile, match=named):
        LoadedPolicies(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=drifts(), device="cpu", trust=True)
    assert equal(weights(model), weights(loaded))
    loaded.learn(60)
    assert LoadedPolicies(tmp_path / "model", trust=True).count == 3


class Cautious:
    """A user's score, without a ``__repr__``."""

    def __call__(self, proposals):
        return QScore()(proposals)


class Counter(Hook):
    """A user's hook."""

    calls = 0

    def after_updates(self, model):
        self.calls += 1


def scored(proposals):
    """A user's score that is a function."""
    return QScore()(proposals)


#: parts of a user's: arguments, where they stand, and what needs a tag
PARTS = {
    "a behavior": ({"behavior": Contrary(QScore())}, "behavior", Contrary),
    "a behavior in a behavior": ({"behavior": Hold(3, Contrary(QScore()))}, "behavior.inner", Contrary),
    "a score": ({"behavior": Argmax(Cautious())}, "behavior.score", Cautious),
    "a function as a score": ({"behavior": Argmax(scored)}, "behavior.score", scored),
    "a hook": ({"hooks": ["distill(100, 2)", Counter()]}, r"hooks\[1\]", Counter),
}


@pytest.fixture
def own_tags(monkeypatch):
    for name in ("OBJECTS", "NAMED", "TAGS"):
        monkeypatch.setattr(tags, name, dict(getattr(tags, name)))


@pytest.mark.parametrize("what", PARTS)
def test_a_users_part_is_saved_by_its_tag_or_not_at_all(what, tmp_path, own_tags):
    given, at, own = PARTS[what]
    model = make(**given).learn(60)
    with pytest.raises(TypeError, match=rf"^{at} is a .*{own.__name__}, .* no tag: .*register\('mine.{own.__name__}'"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    register("mine.own", own)
    model.save(tmp_path / "model")
    with no_code():
        loaded = QMP.load(tmp_path / "model", env=drifts(), device="cpu")
    assert equal(weights(model), weights(loaded))
    assert repr(encoded(model.behavior)) == repr(encoded(loaded.behavior))
    assert [vars(hook) for hook in loaded.hooks[1:]] == [vars(hook) for hook in model.hooks[1:]]
    loaded.learn(60)
    for table in (tags.OBJECTS, tags.NAMED):
        table.pop("mine.own", None)
    with pytest.raises(DamagedFile, match=rf"model.zip: {at}: nothing has the tag 'mine.own' here; .*register"):
        QMP.load(tmp_path / "model")


def encoded(behavior):
    return Encoder({}).encode(behavior)


def test_a_schedule_with_a_tag_needs_no_trust(tmp_path, own_tags):
    register("mine.half", halved)
    make(learning_rate=halved).save(tmp_path / "model")
    with no_code():
        assert QMP.load(tmp_path / "model", device="cpu").learning_rate is halved


def test_a_class_that_moved_is_found_by_its_tag(tmp_path, own_tags):
    register("mine.own", Contrary)
    make(behavior=Contrary(QScore())).save(tmp_path / "model")
    tags.OBJECTS.pop("mine.own")
    elsewhere = type("Perverse", (Contrary,), {"__module__": "elsewhere"})
    register("mine.own", elsewhere)
    assert type(QMP.load(tmp_path / "model", device="cpu").behavior) is elsewhere


def test_a_tag_belongs_to_one_class(own_tags):
    register("mine.own", Contrary)
    register("mine.own", type("Contrary", (Argmax,), {"__module__": __name__}))  # a cell that ran again
    with pytest.raises(ValueError, match="'behavior.hold' belongs to qmp_sb3.*Hold; give .*Contrary another"):
        register("behavior.hold", Contrary)
    with pytest.raises(ValueError, match="'my own' is none"):
        register("my own", Contrary)
    with pytest.raises(TypeError, match="give a class or a function"):
        register("mine.own", Contrary(QScore()))


def test_custom_objects_take_the_place_of_what_is_pickled(tmp_path):
    make(learning_rate=halved).save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", device="cpu", custom_objects={"learning_rate": 1e-4})
    assert loaded.lr_schedule(1.0) == 1e-4


def test_parameters_are_set_without_what_is_pickled(tmp_path):
    make(learning_rate=halved, seed=1).save(tmp_path / "model")
    model = make(seed=0)
    with no_code():
        model.set_parameters(tmp_path / "model")
    assert equal(weights(model), weights(make(seed=1)))


def test_an_expression_cannot_say_trust(tmp_path):
    """Sentences stand in the files of runs."""
    make().save(tmp_path / "expert")
    with pytest.raises(ValueError, match="unexpected keyword argument 'trust'"):
        parse_behavior(f"also(argmax(q), load({str(tmp_path / 'expert')!r}, trust=True))")


# ------------------------------------------------------------------------------------------------------ older files


def test_models_of_stable_baselines3s_kind_need_trust(tmp_path):
    model = make().learn(60)
    states, names = model._get_torch_save_params()
    excluded = {*model._excluded_save_params(), "policy", *names}
    data = {name: value for name, value in model.__dict__.items() if name not in excluded}
    variables = {name: getattr(model, name) for name in names}
    save_to_zip_file(tmp_path / "older", data, model.get_parameters(), variables)
    for load in (QMP.load, make(seed=5).set_parameters, LoadedPolicies):
        with no_code(), pytest.raises(UntrustedFile, match="older.zip was written by .* with pickles"):
            load(tmp_path / "older")
    loaded = QMP.load(tmp_path / "older", env=drifts(), device="cpu", trust=True)
    assert equal(weights(model), weights(loaded))
    loaded.save(tmp_path / "newer")
    with no_code():
        assert equal(weights(model), weights(QMP.load(tmp_path / "newer", device="cpu")))


@pytest.mark.parametrize("kind", ["path", "file"])
def test_replay_buffers_of_stable_baselines3s_kind_need_trust(kind, tmp_path):
    model, other = make().learn(60), make()
    save_to_pkl(tmp_path / "older.pkl", model.replay_buffer)
    older = io.BytesIO((tmp_path / "older.pkl").read_bytes()) if kind == "file" else tmp_path / "older"
    with no_code(), pytest.raises(UntrustedFile, match="is a pickle, .*trust=True"):
        other.load_replay_buffer(older)
    assert other.replay_buffer.size() == 0
    other.load_replay_buffer(older, trust=True)
    np.testing.assert_array_equal(other.replay_buffer.table, model.replay_buffer.table)


def test_policies_of_stable_baselines3s_kind_need_trust(tmp_path):
    policy = make().policy
    super(type(policy).__mro__[1], policy).save(tmp_path / "older.pkl")
    with no_code(), pytest.raises(UntrustedFile, match="is a pickle"):
        MultiTaskPolicy.load(tmp_path / "older.pkl", device="cpu")
    loaded = MultiTaskPolicy.load(tmp_path / "older.pkl", device="cpu", trust=True)
    assert equal(policy.state_dict(), loaded.state_dict())


@pytest.mark.parametrize("name", ["replay", "replay.pkl", "replay.safetensors"])
def test_names_of_replay_files(name, tmp_path):
    """SB3's callbacks end them in .pkl; a name without suffix gets an honest one, and is found by either."""
    model = make().learn(60)
    model.save_replay_buffer(tmp_path / name)
    [written] = tmp_path.iterdir()
    assert written.name == {"replay": "replay.safetensors"}.get(name, name)
    for known in {"replay", name} | ({"replay.pkl"} if name == "replay" else set()):
        other = make()
        other.load_replay_buffer(tmp_path / known)
        assert other.replay_buffer.sizes.tolist() == [20] * 3


# ---------------------------------------------------------------------------------------------------- malicious files


class Payload:
    """What an attacker pickles."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the payload ran')",)


@pytest.fixture
def saved(tmp_path) -> Path:
    make().learn(60).save(tmp_path / "model", include=["replay_buffer"])
    return tmp_path / "model.zip"


def forge(path: Path, compression: int = zipfile.ZIP_STORED, more: dict | None = None, **data) -> None:
    """Change a model's members: entries of ``data``, and more, where None takes a member away."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["data"] = json.dumps(json.loads(members["data"]) | data).encode()
    members |= more or {}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


def forge_member(path: Path, name: str, change) -> None:
    """Change what a member holds."""
    with zipfile.ZipFile(path) as archive:
        state = read_tree(io.BytesIO(archive.read(name)))
    change(state)
    file = io.BytesIO()
    write_tree(file, state)
    forge(path, more={name: file.getvalue()})


def shorten_moments(state: dict) -> None:
    state["state"][0]["exp_avg"] = state["state"][0]["exp_avg"][:5]


UDS_NODE = {"~": "part", "tag": "sharing.uds", "is": "uds(0)", "state": {"quantile": 0.0, "reward": None}}
PICKLED = base64.b64encode(pickle.dumps(Payload())).decode()
ATTACKS = {
    "pickled bytes among the data": (
        lambda path: forge(path, extra={"~": "pickle", "class": "numpy.ndarray", "is": "_logged_counts"}),
        r"extra \(numpy.ndarray\)",
    ),
    "pickled bytes within a part": (
        lambda path: forge(path, policy_kwargs={"net_arch": [{"~": "pickle", "class": "int", "is": "_logged_counts"}]}),
        r"policy_kwargs.net_arch\[0\] \(int\)",
    ),
    "stable-baselines3's pickles": (
        lambda path: forge(path, more={"_qmp_sb3_format": None}, seed={":type:": "int", ":serialized:": PICKLED}),
        "with pickles",
    ),
    "its pickles in the new layout": (
        lambda path: forge(path, policy_class={":type:": "x", ":serialized:": PICKLED}),
        "its policy is",
    ),
    "a member of torch": (lambda path: forge(path, more={"policy.pth": b"PK"}), "unknown member 'policy.pth'"),
    "a member outside": (
        lambda path: forge(path, more={"../policy.safetensors": b""}),
        r"unknown member '../policy.safetensors'",
    ),
    "a member somewhere": (lambda path: forge(path, more={"/etc/x.safetensors": b""}), "unknown member '/etc/x"),
    "a member that unpacks": (lambda path: forge(path, zipfile.ZIP_DEFLATED, {"data": b" " * 10**7}), "unpacks to"),
    "a class that runs programs": (
        lambda path: forge(path, behavior={"~": "object", "tag": "subprocess.Popen", "state": {}}),
        "behavior: nothing has the tag 'subprocess.Popen'",
    ),
    "a method's place": (lambda path: forge(path, train=1), "'train' is no attribute of a QMP"),
    "a dunder": (lambda path: forge(path, __class__=1), "'__class__' is no attribute"),
    "another policy": (
        lambda path: forge(path, policy_class={"~": "named", "is": "torch.nn.ReLU"}),
        "its policy is <class 'torch",
    ),
    "a expression": (
        lambda path: forge(path, behavior="also(argmax(q), [load('x.zip')])"),
        "its behavior is a text",
    ),
    "parameters of something else": (
        lambda path: forge(
            path, more={"policy.__class__.safetensors": zipfile.ZipFile(path).read("policy.safetensors")}
        ),
        "parameters 'policy.__class__'",
    ),
    "moments of another form": (
        lambda path: forge_member(path, "actor.optimizer.safetensors", shorten_moments),
        "actor.optimizer is damaged: 'exp_avg' has the shape",
    ),
    "temperatures of another form": (
        lambda path: forge_member(
            path, "pytorch_variables.safetensors", lambda state: state.update(log_ent_coef=th.zeros(9))
        ),
        "'log_ent_coef' is no tensor of this model",
    ),
    "weights of another form": (
        lambda path: forge_member(
            path, "policy.safetensors", lambda state: state.update({"actor.network.biases.0": th.zeros(1)})
        ),
        "its content makes no QMP",
    ),
    "networks of another form": (lambda path: forge(path, policy_kwargs={"net_arch": [9]}), "is damaged"),
    "a text for a number": (lambda path: forge(path, policy_kwargs=3), "its content makes no QMP"),
    "a replay buffer of another form": (
        lambda path: forge(path, replay_buffer=UDS_NODE),
        "a UDS, not a MultiTaskReplayBuffer",
    ),
    "data that are none": (lambda path: forge(path, more={"data": b"[1, 2"}), "no JSON of a model"),
    "arrays that are none": (lambda path: forge(path, more={"data.safetensors": b"\xff" * 99}), "data.safetensors"),
    "a state that is none": (
        lambda path: forge(path, more={"policy.safetensors": zipfile.ZipFile(path).read("data.safetensors")}),
        "policy.safetensors is damaged",
    ),
    "another format": (lambda path: forge(path, more={"_qmp_sb3_format": b"9"}), "has the format 9"),
    "no model": (
        lambda path: zipfile.ZipFile(path, "w").writestr("readme.txt", "hello"),
        "holds no model",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malicious_model_is_one_clear_error(saved, attack):
    act, message = ATTACKS[attack]
    act(saved)
    with no_code(), pytest.raises((DamagedFile, UntrustedFile, ValueError), match=message):
        QMP.load(saved, device="cpu")


def test_a_member_that_is_there_twice(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(saved, "a") as archive:
            archive.writestr("policy.safetensors", b"")
    with pytest.raises(DamagedFile, match="two members 'policy.safetensors'"):
        QMP.load(saved)


def test_a_damaged_model_is_named(saved):
    whole = saved.read_bytes()
    place = whole.index(b"actor.network") + 3000
    damages = [whole[: len(whole) // 2], whole[:100], whole[:-30], b"", b"PK\x03\x04" + b"\x00" * 500]
    damages.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])  # one bit
    for damaged in damages:
        saved.write_bytes(damaged)
        with pytest.raises(DamagedFile, match="model.zip"):
            QMP.load(saved)


REPLAY_LIES = {
    "more transitions than rows": lambda state: state.update(sizes=np.full(3, 10_000)),
    "a place before the first": lambda state: state.update(positions=np.array([0, -5, 0])),
    "places that are no whole numbers": lambda state: state.update(positions=np.zeros(3)),
    "rows of another width": lambda state: state.update(_used=state["_used"][:, :, :-1].copy()),
    "fewer rows than transitions": lambda state: state.update(_used=state["_used"][:5]),
    "rows of another type": lambda state: state.update(_used=state["_used"].astype(np.float64)),
    "a ring without rows": lambda state: state.update(buffer_size=0),
    "a generator that is none": lambda state: state.update(rng=None),
    "slots of other tasks": lambda state: state.update(n_envs=7),
    "more tasks": lambda state: state.update(n_tasks=4),
    "columns that it has not": lambda state: state.update(columns={"chosen": (5,)}),
    "a layout that is none": lambda state: state.update(layout=state["replay"]),
}


@pytest.mark.parametrize("lie", REPLAY_LIES)
def test_a_replay_buffer_that_lies_about_its_rows_is_refused(lie, tmp_path, monkeypatch):
    """Compiled code reads the rows where sizes and places say."""
    model = make().learn(60)
    honest = type(model.replay_buffer).__getstate__(model.replay_buffer)
    REPLAY_LIES[lie](honest)
    monkeypatch.setattr(type(model.replay_buffer), "__getstate__", lambda buffer: honest)
    model.save_replay_buffer(tmp_path / "replay")
    monkeypatch.undo()
    with no_code(), pytest.raises(DamagedFile, match="replay.safetensors is damaged"):
        model.load_replay_buffer(tmp_path / "replay")
    assert model.replay_buffer.sizes.tolist() == [20] * 3, "the model keeps its own"


def test_a_replay_file_that_holds_something_else(tmp_path):
    write_tree(tmp_path / "replay.safetensors", {"rows": np.ones(3)})
    save_file({"rows": np.ones(3)}, tmp_path / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("replay", "weights", "text"):
        with pytest.raises(ValueError, match="holds a dict|none that qmp_sb3 wrote|no safetensors file"):
            make().load_replay_buffer(tmp_path / name)


def test_the_system_info_of_a_file_cannot_command_the_terminal(saved, capsys):
    forge(saved, more={"system_info.txt": b"\x1b[2Jhello"})
    read_model(saved, print_system_info=True)
    assert capsys.readouterr().out.endswith("?[2Jhello\n")


def test_a_model_that_is_saved_over_stays_whole_until_then(tmp_path, monkeypatch):
    model = make()
    model.save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()
    model.unsavable = (one for one in ())
    with pytest.raises(TypeError, match="unsavable is a builtins.generator"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
