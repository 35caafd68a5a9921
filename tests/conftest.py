"""Settings that every test shares."""

import os
import sys

if sys.platform.startswith("linux") and "DISPLAY" not in os.environ:
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when OpenGL is loaded, so it has to come first
os.environ.setdefault("OMP_NUM_THREADS", "1")
