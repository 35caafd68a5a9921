"""The compiled part, ``qmp_sb3/native``: plain C, no Python headers. Everything else is in pyproject.toml.

It is optional: without a compiler the installation goes on, and the same work is done by PyTorch.
"""

from glob import glob

from setuptools import Extension, setup

SOURCES = "qmp_sb3/native/src"

setup(
    ext_modules=[
        Extension(
            "qmp_sb3.native._kernels",
            sources=sorted(glob(f"{SOURCES}/*.c")),
            depends=sorted(glob(f"{SOURCES}/*.h")),
            # The code asks the processor what it can do and has a variant for it: no -march here.
            extra_compile_args=["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"],
            extra_link_args=["-pthread"],
            libraries=["m"],
            optional=True,
        )
    ]
)
