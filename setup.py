"""What pyproject.toml cannot say: the compiled part, and the definitions of the papers' tables.

``qmp_sb3/native`` is plain C without Python headers. It is optional: without a compiler the installation goes on, and
the same work is done by PyTorch. ``benchmarks/paper/*.yaml`` travels with the package as ``qmp_sb3/definitions``.
"""

from glob import glob
from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

SOURCES = "qmp_sb3/native/src"
FILES = sorted(glob(f"{SOURCES}/*.[ch]"))
FINGERPRINT = sha256(b"".join(Path(file).read_bytes() for file in FILES)).hexdigest()[:16]


class BuildWithDefinitions(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "qmp_sb3", "definitions")
            self.mkpath(str(target))
            for file in sorted(glob("benchmarks/paper/*.yaml")):
                self.copy_file(file, str(target))


setup(
    cmdclass={"build_py": BuildWithDefinitions},
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
    ],
)
