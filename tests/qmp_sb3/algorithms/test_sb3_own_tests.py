"""SB3's own tests, with its SAC replaced by QMP: what fails is what docs/compatibility.md lists."""

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = ("run", "save_load", "deterministic", "predict", "callbacks", "logger", "spaces", "vec_normalize")
REPLACE = "import stable_baselines3, qmp_sb3\nstable_baselines3.SAC = qmp_sb3.QMP\n"
#: test -> why it fails, as docs/compatibility.md has it
REFUSED = {
    "test_offpolicy_multi_env[QMP]": "gSDE",
    "test_sde_multi_dim": "gSDE",
    "test_save_load_policy[True-MlpPolicy-QMP]": "gSDE",
    "test_save_load_policy[True-CnnPolicy-QMP]": "gSDE and images",
    "test_save_load_policy[False-CnnPolicy-QMP]": "images",
    "test_float64_action_space[action_space0-obs_space2-QMP]": "dict observations",
    "test_float64_action_space[action_space0-obs_space3-QMP]": "dict observations",
    "test_float64_action_space[action_space1-obs_space2-QMP]": "dict observations",
    "test_float64_action_space[action_space1-obs_space3-QMP]": "dict observations",
    "test_her_normalization": "HER",
    "test_warn_buffer[True-QMP]": "optimize_memory_usage",
}


def of_sac(name: str) -> bool:
    """Whether a test runs SAC: its parameters say so, or it is one of those without parameters that use it."""
    single = ("test_sac", "test_n_critics", "test_train_freq", "test_save_load_pytorch_var", "test_sde_multi_dim")
    return "QMP" in name or name.startswith(single) or name == "test_her_normalization"


@pytest.mark.slow
@pytest.mark.network
def test_sb3s_own_tests_pass_but_for_what_is_listed(tmp_path):
    package = f"stable-baselines3=={version('stable_baselines3')}"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", package]
    subprocess.run([*download, "--dest", str(tmp_path)], check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    (tests,) = tmp_path.glob("stable_baselines3-*/tests")
    (tests / "conftest.py").write_text(REPLACE)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    chosen = "QMP or sac or n_critics or train_freq or pytorch_var or sde_multi or her_norm"
    files = [f"test_{name}.py" for name in FILES]
    subprocess.run([*command, "-k", chosen, *files], cwd=tests, env=environment, check=False)
    outcome = {
        case.attrib["name"]: any(child.tag in ("failure", "error") for child in case)
        for case in ElementTree.parse(report).iter("testcase")
        if of_sac(case.attrib["name"])
    }
    assert len(outcome) > 40
    assert {name for name, failed in outcome.items() if failed} == set(REFUSED)
