"""Compiles the Cython modules; everything else about the package is in pyproject.toml.

Three environment variables choose a variant of the build. Each is meant for a copy of the tree
under ``build/`` (tools/variant.py makes it), so that no variant is mistaken for the build in place:

``FASTWS_DEBUG=1``     bounds checks, None checks, asserts; no optimisation
``FASTWS_SANITIZE=1``  AddressSanitizer and UndefinedBehaviorSanitizer; asserts
``FASTWS_COVERAGE=1``  line tracing, for coverage.py with Cython's plugin
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from Cython.Compiler import Options
from Cython.Compiler.Errors import CompileError
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("fastws")

DEBUG = os.environ.get("FASTWS_DEBUG") == "1"
SANITIZE = os.environ.get("FASTWS_SANITIZE") == "1"
COVERAGE = os.environ.get("FASTWS_COVERAGE") == "1"
VARIANT = DEBUG or SANITIZE or COVERAGE

DIRECTIVES: dict[str, Any] = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "cdivision": True,
    "linetrace": COVERAGE,
    "profile": COVERAGE,
    # Plain C functions rather than Cython's function objects: CPython's specialised call
    # instructions know them. The "clinic" format still gives inspect.signature() what it needs.
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "warn.maybe_uninitialized": True,
    "warn.unreachable": True,
    "warn.unused": True,
}

# Warnings that the C which Cython generates cannot avoid: slots have fixed signatures.
C_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]


def macros() -> list[tuple[str, str | None]]:
    chosen: list[tuple[str, str | None]] = []
    if not (DEBUG or SANITIZE):
        chosen.append(("CYTHON_WITHOUT_ASSERTIONS", "1"))
    if COVERAGE:
        chosen += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
        # coverage.py hears of compiled lines from sys.settrace(), never from sys.monitoring.
        chosen.append(("CYTHON_USE_SYS_MONITORING", "0"))
    return chosen


def flags(compiler_type: str) -> tuple[list[str], list[str]]:
    """Compiler and linker flags; the last -O wins over the one that Python was built with."""
    if compiler_type == "msvc":
        return ["/O2"], []
    compile_flags = [*C_WARNINGS, "-fvisibility=hidden"]
    link_flags: list[str] = []
    if SANITIZE:
        # Python's own flags have -fwrapv, with which no signed overflow would be an error.
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        compile_flags += [*sanitizers, "-fno-wrapv", "-fno-omit-frame-pointer"]
        compile_flags += ["-UNDEBUG", "-g", "-O1"]
        link_flags += sanitizers
    elif DEBUG:
        compile_flags += ["-UNDEBUG", "-g", "-O0", "-Werror"]
    elif COVERAGE:
        compile_flags += ["-O0", "-Werror"]
    else:
        compile_flags += ["-O3"]
    return compile_flags, link_flags


class BuildExt(build_ext):
    """Cythonizes when, and only when, extensions are built: an sdist never holds generated C."""

    def run(self) -> None:
        Options.warning_errors = True
        try:
            done = cythonize(
                self.extensions,
                # Cython's coverage plugin looks for the C file beside the .pyx file.
                build_dir=None if VARIANT else "build/cython",
                compiler_directives=DIRECTIVES,
                force=self.force,
            )
        except CompileError as error:
            # Cython has printed the lines at fault; a traceback through setuptools adds nothing.
            raise SystemExit(f"Cython did not compile {error}; see above.") from None
        cythonized = {extension.name: extension for extension in done}
        for extension in self.extensions:
            extension.sources = cythonized[extension.name].sources
            extension.depends = [*cythonized[extension.name].depends, "setup.py"]
        super().run()

    def build_extensions(self) -> None:
        compile_flags, link_flags = flags(self.compiler.compiler_type)
        for extension in self.extensions:
            extension.extra_compile_args = compile_flags
            extension.extra_link_args = link_flags
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            f"{PACKAGE.name}.{source.stem}",
            [source.as_posix()],
            include_dirs=[PACKAGE.as_posix()],
            define_macros=macros(),
        )
        for source in sorted(PACKAGE.glob("_*.pyx"))
    ],
    cmdclass={"build_ext": BuildExt},
)
