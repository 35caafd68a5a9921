"""Which OpenGL draws without a window: EGL, else OSMesa, else GLFW, or what the variable MUJOCO_GL says.

MuJoCo itself chooses when it is imported, without checking that the library is there. This module looks first, so
that a missing library is named together with the Debian package that has it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from importlib import import_module
from typing import Any, Protocol

LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
"""Backend -> name of its library."""
PACKAGES = {"egl": "libegl1", "osmesa": "libosmesa6"}
"""Backend -> Debian package that has the library."""
BACKENDS = ("egl", "osmesa", "glfw")
OFF = ("disable", "disabled", "off", "false", "0")
ANY = ("", "enable", "enabled", "on", "true", "1")

INSTALL = (
    f"On Debian or Ubuntu, as root: apt-get install {PACKAGES['osmesa']} (draws on the processor), or apt-get install "
    f"{PACKAGES['egl']} (for a graphics card and its driver)."
)
NO_DEVICE = "its library finds no device that it can open (a graphics card, or Mesa's Debian package libgl1-mesa-dri)"
EGL_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT
MOST_DEVICES = 16


class NoRendering(RuntimeError):
    """This machine cannot draw; the message says why and what to install."""


class Context(Protocol):
    """An OpenGL context without a window."""

    def make_current(self) -> None: ...

    def free(self) -> None: ...


def wanted() -> str:
    """The value of MUJOCO_GL in lower case, ``""`` where it is not set."""
    return os.environ.get("MUJOCO_GL", "").lower().strip()


def check_wanted() -> None:
    """Raise a clear error if MUJOCO_GL names a backend that keeps MuJoCo from being imported."""
    backend = wanted()
    if sys.platform.startswith("linux") and backend in LIBRARIES:
        problem = missing(backend)
        if problem and problem != NO_DEVICE:
            raise ImportError(
                f"MUJOCO_GL={backend} is set, but {problem}, so MuJoCo cannot be imported. Unset MUJOCO_GL, or install "
                f"the library. {INSTALL}"
            )


def missing(backend: str) -> str | None:
    """Why a backend cannot draw on this machine (Linux); None if no reason is found."""
    if backend == "glfw":
        return None if has_display() else "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"
    name = ctypes.util.find_library(LIBRARIES[backend])
    try:
        library = ctypes.CDLL(name or f"lib{LIBRARIES[backend]}.so")
    except OSError:
        return f"lib{LIBRARIES[backend]} is not installed (Debian package {PACKAGES[backend]})"
    return NO_DEVICE if backend == "egl" and not _egl_can_draw(library) else None


def has_display() -> bool:
    """Whether a window could be opened."""
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def context(width: int, height: int) -> Context:
    """A new context for frames of this size, pixels; NoRendering where the machine cannot draw."""
    if wanted() in OFF:
        raise NoRendering(f"MUJOCO_GL={wanted()} switches rendering off: unset it to draw.")
    if not sys.platform.startswith("linux"):
        import mujoco

        return mujoco.GLContext(width, height)
    asked = BACKENDS if wanted() in ANY else (wanted().replace("glx", "glfw"),)
    problems = []
    for backend in asked:
        problem = missing(backend)
        if problem is None:
            try:
                return _make(backend, width, height)
            except Exception as error:  # PyOpenGL and the drivers raise errors of many kinds
                problem = f"{type(error).__name__}: {error}"
        problems.append(f"{backend}: {problem}")
    raise NoRendering(f"Rendering needs OpenGL, which does not work here ({'; '.join(problems)}). {INSTALL}")


def check_window() -> None:
    """Raise a clear error if no window can be opened."""
    if not has_display():
        raise NoRendering(
            'render_mode="human" opens a window, but this machine has no display (DISPLAY and WAYLAND_DISPLAY are not '
            'set). Use render_mode="rgb_array", which draws without one.'
        )


def _make(backend: str, width: int, height: int) -> Context:
    made: Any = import_module(f"mujoco.{backend}").GLContext(width, height)
    made.make_current()
    return made


def _egl_can_draw(library: ctypes.CDLL) -> bool:
    """Whether a device of EGL can be opened. Tried here, as PyOpenGL cannot be turned from EGL to OSMesa later."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    find = library.eglGetProcAddress
    find.restype, find.argtypes = pointer, [ctypes.c_char_p]
    query, display = find(b"eglQueryDevicesEXT"), find(b"eglGetPlatformDisplayEXT")
    if not (query and display):
        return False
    devices, count = (pointer * MOST_DEVICES)(), integer(0)
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, integer, pointer, ctypes.POINTER(integer))(query)
    display_of = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(display)
    initialize = library.eglInitialize
    initialize.restype, initialize.argtypes = ctypes.c_uint, [pointer, pointer, pointer]
    if not query_devices(MOST_DEVICES, devices, ctypes.byref(count)):
        return False
    displays = [display_of(EGL_PLATFORM_DEVICE, device, None) for device in devices[: count.value]]
    return any(one and initialize(one, None, None) for one in displays)


check_wanted()
