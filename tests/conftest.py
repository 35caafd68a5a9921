"""Settings that every test shares, and what some tests need of the machine."""

import os
from collections.abc import Callable
from functools import cache

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@cache
def opengl_problem() -> str | None:
    """Why this machine cannot draw, None where it can."""
    from qmp_envs.rendering import opengl

    try:
        opengl.context(16, 16).free()
    except opengl.NoRendering as error:
        return str(error)
    return None


@cache
def gpu_problem() -> str | None:
    """Why no graphics card can be used, None where one can."""
    import torch

    return None if torch.cuda.is_available() else "PyTorch finds no graphics card"


NEEDS: dict[str, Callable[[], str | None]] = {"gl": opengl_problem, "gpu": gpu_problem}
"""Marker -> why its tests cannot run here."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, problem in NEEDS.items():
        if item.get_closest_marker(name) and problem():
            pytest.skip(f"{name}: {problem()}")
