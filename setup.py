"""The compiled part, ``qmp_sb3/native``: plain C, no Python headers. Everything else is in pyproject.toml.

It is optional: without a compiler the installation goes on, and the same work is done by PyTorch.
"""

from glob import glob
from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup

SOURCES = "qmp_sb3/native/src"
FILES = sorted(glob(f"{SOURCES}/*.[ch]"))
FINGERPRINT = sha256(b"".join(Path(file).read_bytes() for file in FILES)).hexdigest()[:16]

setup(
    ext_modules=[
        Extension(
            "qmp_sb3.native._kernels",
            sources=sorted(glob(f"{SOURCES}/*.c")),
            depends=FILES,
            define_macros=[("FINGERPRINT", f"0x{FINGERPRINT}")],  # of the sources, asked by native/library.py
            # The code asks the processor what it can do and has a variant for it: no -march here.
            extra_compile_args=["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"],
            extra_link_args=["-pthread"],
            libraries=["m"],
            optional=True,
        )
    ]
)
