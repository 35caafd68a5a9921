"""Trees of values as safetensors files: they come back exactly, and a file never runs anything."""

import copy
import io
import json
import math
import pathlib
from collections import OrderedDict, deque
from pprint import pformat

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from qmp_sb3.behaviors import parse_behavior
from qmp_sb3.serialization import DamagedFile, UntrustedFile, read_tree, write_tree
from qmp_sb3.serialization.models import SavedModel
from qmp_sb3.serialization.trees import FORMAT

PLAIN = {
    "nothing": None,
    "truth": [True, False],
    "whole numbers": [0, -1, 2**53 - 1, 2**53, -(2**200)],
    "numbers": [0.1, -0.0, 5e-324, math.inf, -math.inf],
    "texts": ["", "é", "\ud800", "~"],
    "bytes": b"\x00\xff",
    "containers": ([], (), (1, [2, (3,)]), {"a": {"b": []}}, set(), {1, "a", (2.5, None)}, frozenset({b"x"})),
    "deques": [deque([1, 2], maxlen=3), deque()],
    "keys": {1: "one", None: 0, (1, 2): "pair", "~": "mark", 0.5: {"~": 1}},
    "ordered": OrderedDict(z=1, a=2),
    "types": [
        np.dtype("<f4"),
        np.float32,
        int,
        th.float16,
        th.device("cuda:1"),
        th.nn.Tanh,
        th.optim.SGD,
        th.Size([2]),
    ],
    "path": pathlib.Path("some") / "where",
    "train_freq": TrainFreq(4, TrainFrequencyUnit.EPISODE),
}
GRID = np.arange(24.0).reshape(4, 6)
ARRAYS = {
    "usual": GRID,
    "a column": GRID[:, 2],
    "every second, backwards": GRID[::-2, ::2],
    "transposed": GRID.T,
    "by columns": np.asfortranarray(GRID),
    "empty": np.zeros((0, 3), dtype=np.int8),
    "of no dimensions": np.array(2.5, dtype=np.float16),
    "truth": np.array([[True], [False]]),
    "no numbers": np.array([np.nan, -np.nan, np.inf, -0.0], dtype=np.float32),
    "large": np.array([2**64 - 1], dtype=np.uint64),
    "other byte order": np.arange(3, dtype=">i4"),
    "complex": np.array([1 + 2j, np.nan]),
    "texts": np.array(["ab", "", "é"]),
    "empty texts": np.zeros(0, dtype="<U5"),
}


def there_and_back(value, where):
    if where == "file":
        file = io.BytesIO()
        write_tree(file, value)
        file.seek(0)
        return read_tree(file)
    write_tree(where, value)
    return read_tree(where)


@pytest.fixture(params=["path", "file"])
def where(request, tmp_path):
    return tmp_path / "tree.safetensors" if request.param == "path" else "file"


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_come_back(name, where):
    value = PLAIN[name]
    found = there_and_back(value, where)
    assert found == value and pformat(found, width=1) == pformat(value, width=1), (
        "it tells -0.0 from 0.0 and a tuple from a list"
    )


def test_what_is_not_equal_to_itself(where):
    assert math.isnan(there_and_back([math.nan], where)[0])


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(name, where):
    array = ARRAYS[name]
    found = there_and_back({"deep": [array]}, where)["deep"][0]
    assert found.dtype == array.dtype and found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable and not np.shares_memory(found, array)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, np.bool_, np.str_])
def test_scalars_keep_their_type(kind, where):
    found = there_and_back([kind(1)], where)[0]
    assert type(found) is kind and found == kind(1)


@pytest.mark.parametrize("dtype", [th.float32, th.bfloat16, th.float16, th.int64, th.bool, th.complex64, th.uint8])
def test_tensors_come_back(dtype, where):
    tensor = th.tensor([[0, 1, 1], [1, 0, 1]], dtype=dtype).T
    found = there_and_back(tensor, where)
    assert found.dtype == dtype and th.equal(found, tensor)


def test_parameters_stay_parameters(where):
    learned, fixed = th.nn.Parameter(th.ones(2)), th.zeros(0, requires_grad=True)
    found = there_and_back([learned, fixed, th.nn.Parameter(th.ones(1), requires_grad=False)], where)
    assert [isinstance(one, th.nn.Parameter) for one in found] == [True, False, True]
    assert [one.requires_grad for one in found] == [True, True, False]


def test_generators_go_on(where):
    rng, torch_rng = np.random.default_rng(0), th.Generator().manual_seed(0)
    rng.normal(size=5), rng.spawn(2), th.rand(3, generator=torch_rng)
    found, found_torch = there_and_back((rng, torch_rng), where)
    np.testing.assert_array_equal(found.normal(size=9), rng.normal(size=9))
    assert found.spawn(1)[0].random() == rng.spawn(1)[0].random()
    assert th.equal(th.rand(9, generator=found_torch), th.rand(9, generator=torch_rng))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, np.inf, (2,), np.float32),
        spaces.Box(0, 255, (3, 2), np.uint8),
        spaces.Discrete(4, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Tuple([spaces.Discrete(2), spaces.Dict({"a": spaces.Box(-1, 1, ())})]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_spaces_draw_what_they_would_have_drawn(space, where):
    space.seed(3)
    found = there_and_back(space, where)
    assert found == space
    assert str(found.sample()) == str(space.sample())


def test_noise_comes_back(where):
    noise = VectorizedActionNoise(NormalActionNoise(np.zeros(2), np.full(2, 0.1)), 3)
    assert repr(there_and_back(noise, where)) == repr(noise)


def test_one_object_stays_one_object(where):
    shared, array, cycle = [1], np.ones(2), {}
    cycle["self"] = [cycle]
    behavior = parse_behavior("argmax(q)")
    found = there_and_back({"a": shared, "b": (shared, array), "c": array, "d": cycle, "e": [behavior] * 2}, where)
    assert found["a"] is found["b"][0] and found["b"][1] is found["c"]
    assert found["d"]["self"][0] is found["d"]
    assert found["e"][0] is found["e"][1]


def header_and_arrays(path):
    """Of a safetensors file; the order of its metadata is left to chance."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def test_equal_values_make_equal_files(tmp_path):
    for name, order in (("one", "abc"), ("other", "cab")):
        write_tree(tmp_path / name, {"set": set(order), "numbers": GRID, "rng": np.random.default_rng(0)})
    assert header_and_arrays(tmp_path / "one") == header_and_arrays(tmp_path / "other")


def test_arrays_have_the_names_of_their_places_for_other_readers(tmp_path):
    write_tree(tmp_path / "tree", {"policy": {"layers.0": [GRID]}, "policy.layers": {"0": [GRID.astype(np.int8)]}})
    assert load_file(tmp_path / "tree").keys() == {"policy.layers.0.0", "policy.layers.0.0'"}


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path):
    write_tree(tmp_path / "tree", 1)
    with pytest.raises(TypeError, match=r"a\[1\]\.b is a builtins\.generator"):
        write_tree(tmp_path / "tree", {"a": [0, {"b": (one for one in ())}]})
    assert read_tree(tmp_path / "tree") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


class Mine:
    """A user's class."""

    def __eq__(self, other):
        return type(other) is Mine


def test_what_only_pickle_knows_is_named_and_needs_trust(tmp_path):
    value = {"rule": [0, Mine()], "schedule": lambda progress: 3.0 * progress, "both": None}
    value["both"] = value["rule"][1]
    write_tree(tmp_path / "tree", value)
    with pytest.raises(UntrustedFile, match=r"tree: rule\[1\] \(.*Mine\), schedule \(.*<lambda>\): .*trust=True"):
        read_tree(tmp_path / "tree")
    found = read_tree(tmp_path / "tree", trust=True)
    assert found["rule"] == value["rule"] and found["schedule"](1.0) == 3.0
    assert found["both"] is found["rule"][1]


def test_nothing_of_ours_is_pickled(tmp_path):
    with pytest.raises(TypeError, match=r"a\[0\] is a qmp_sb3\.\S+\.SavedModel, which has no tag: .*register"):
        write_tree(tmp_path / "tree", {"a": [SavedModel(None)]})


# --------------------------------------------------------------------------------------------------- files that lie

CANARY = {"~": "array", "is": "x"}
LIES = {
    "a class that runs programs": {"~": "object", "tag": "subprocess.Popen", "state": {"args": "true"}},
    "a function as a class": {"~": "object", "tag": "builtins.eval", "state": {}},
    "a module's module": {"~": "object", "tag": "qmp_sb3.replay.draws.np", "state": {}},
    "an attribute of a class": {"~": "named", "is": "torch.nn.Module.__init__"},
    "a class of another library": {"~": "named", "is": "torch.utils.data.DataLoader"},
    "a method's place": {"~": "part", "tag": "draw.uniform", "is": "uniform", "state": {"make_priorities": 1}},
    "another class": {"~": "part", "tag": "draw.uniform", "is": "uniform", "state": {"__class__": 1}},
    "a part without its expression": {"~": "object", "tag": "draw.uniform", "state": {}},
    "another expression": {"~": "part", "tag": "draw.uniform", "is": "load('x.zip')", "state": {}},
    "a class that is only named": {"~": "object", "tag": "torch.nn.ReLU", "state": {}},
    "a class whose objects are held": {"~": "named", "is": "policy.load"},
    "an abstract class": {"~": "object", "tag": "draw.draw", "state": {}},
    "a tuple's attributes": {
        "~": "object",
        "tag": "sb3.TrainFreq",
        "state": {},
    },
    "an object without attributes": {"~": "part", "tag": "draw.uniform", "is": "uniform"},
    "a tuple of another class": {"~": "tuple", "tag": "draw.uniform", "of": []},
    "an array of objects": {"~": "array", "is": "x", "dtype": "|O", "shape": [1]},
    "a larger array": {"~": "array", "is": "x", "dtype": "<f8", "shape": [10**15]},
    "a dtype that is code": {"~": "dtype", "is": "f4, __import__('os')"},
    "an array that is not there": {"~": "array", "is": "y"},
    "a place that is not there": {"~": "same", "as": ["nowhere"]},
    "an unknown kind": {"~": "eval", "is": "1"},
    "a kind that is no text": {"~": ["object"]},
    "a generator's state": {"~": "torch.generator", "is": "x"},
    "a generator": {"~": "generator", "class": "MT19937", "state": {}},
    "a number": {"~": "int", "is": "__import__('os')"},
    "a device": {"~": "torch.device", "is": "no such device"},
    "no dictionary": {"~": "ordered", "of": [1, 2]},
    "priorities of other rows": {
        "~": "object",
        "tag": "sum_trees",
        "state": {"rows": 1, "tasks": 1, "leaves": {"~": "array", "is": "square"}},
    },
    "tasks that are not there": {
        "~": "object",
        "tag": "task_layout",
        "state": {"tasks": CANARY, "n_tasks": 1},
    },
}


def forge(path, tree, **metadata):
    arrays = {"x": np.arange(8, dtype=np.uint8), "square": np.ones((3, 3))}
    save_file(arrays, path, metadata={"qmp_tree": FORMAT, "tree": tree} | metadata)


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused_with_the_place(tmp_path, lie):
    forge(tmp_path / "tree", json.dumps({"part": [LIES[lie]]}))
    with pytest.raises(DamagedFile, match=r"tree( is damaged)?: part\[0\]"):
        read_tree(tmp_path / "tree")
    with pytest.raises(DamagedFile):
        read_tree(tmp_path / "tree", trust=True)


def test_nesting_without_end(tmp_path):
    forge(tmp_path / "tree", "[" * 200_000 + "]" * 200_000)
    with pytest.raises(DamagedFile, match="no JSON|nested"):
        read_tree(tmp_path / "tree")
    forge(tmp_path / "tree", '{"~": "tuple", "of": [' * 20_000 + "]}" * 20_000)
    with pytest.raises(DamagedFile, match="no JSON|nested"):
        read_tree(tmp_path / "tree")


def test_files_of_others_and_of_the_future(tmp_path):
    save_file({"x": GRID}, tmp_path / "weights")
    with pytest.raises(DamagedFile, match="none that qmp_sb3 wrote"):
        read_tree(tmp_path / "weights")
    forge(tmp_path / "tree", "1", qmp_tree="1")
    with pytest.raises(DamagedFile, match="has the format 1; this version reads 2"):
        read_tree(tmp_path / "tree")
    with pytest.raises(FileNotFoundError):
        read_tree(tmp_path / "none")


@pytest.mark.parametrize("kind", ["path", "file"])
def test_every_cut_is_noticed(tmp_path, kind):
    """A file that is not whole is an error wherever it ends, and so is a header that promises other arrays."""
    write_tree(tmp_path / "tree", {"a": GRID, "b": [1, 2]})
    whole = (tmp_path / "tree").read_bytes()
    header = copy.copy(whole).replace(b"[4,6]", b"[4,7]")
    for damaged in (*(whole[:end] for end in range(0, len(whole), 37)), whole + b"more", header, b"\xff" * 200):
        (tmp_path / "tree").write_bytes(damaged)
        with pytest.raises(DamagedFile, match="damaged, or no safetensors file"):
            read_tree(tmp_path / "tree" if kind == "path" else io.BytesIO(damaged))
