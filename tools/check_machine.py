"""Says in one sentence what this machine lacks to build fastws; silent if it lacks nothing.

`make` runs this with whatever interpreter it was given: keep the syntax that of Python 3.6.
"""

import os
import shutil
import sys
import sysconfig

OLDEST = (3, 10)


def missing() -> str:
    """Return the sentence, or nothing."""
    running = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST:
        oldest = "{}.{}".format(*OLDEST)
        return (
            f"fastws needs Python {oldest} or newer, and {sys.executable} is Python {running}: "
            "name a newer one, as in `make PYTHON=python3.12`."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return (
            f"{sys.executable} has no venv module with pip in it, which `make` needs for .venv: "
            f"install it (on Debian and Ubuntu: apt-get install python{running}-venv)."
        )
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return (
            f"Python's C headers are missing (there is no {header}): install them "
            f"(on Debian and Ubuntu: apt-get install python{running}-dev)."
        )
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return (
            f"There is no C compiler called {compiler} on the PATH: install one (on Debian and "
            "Ubuntu: apt-get install gcc libc6-dev), or name another, as in `make CC=clang`."
        )
    return ""


if __name__ == "__main__":
    sys.exit(missing() or 0)
