"""The .pxd is usable from other Cython code: a module that cimports it is built and run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

import fastws
from fastws._codec import build_frame
from fastws.limits import Limits
from tests.support import ROOT, TIMEOUT
from tests.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, bytewise, close_payload, frame

pytest.importorskip("Cython")

SOURCE = ROOT / "tests" / "cython" / "drive_codec.pyx"

# What such a project needs: the package's folder, for the C headers that the .pxd includes.
SETUP = f"""
from Cython.Build import cythonize
from setuptools import Extension, setup

package = {fastws.__path__[0]!r}
module = Extension("drive_codec", ["drive_codec.pyx"], include_dirs=[package])
setup(name="drive_codec", ext_modules=cythonize([module], language_level=3))
"""


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("cython")
    shutil.copy(SOURCE, folder)
    (folder / "setup.py").write_text(SETUP)
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=24 * TIMEOUT,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("drive_codec.*.so")
    spec = importlib.util.spec_from_file_location("drive_codec", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STREAM = b"".join(
    [
        frame(TEXT, "héllo"),
        frame(BINARY, bytes(200), fin=False),
        frame(PING, b"1"),
        frame(CONT, b"end"),
        frame(PONG),
        frame(CLOSE, close_payload(1001, "gone")),
        frame(TEXT, "late"),
    ]
)

pytestmark = pytest.mark.slow


def test_events(drive: ModuleType) -> None:
    expected = [
        (TEXT, "héllo"),
        (PING, b"1"),
        (BINARY, bytes(200) + b"end"),
        (PONG, b""),
        (CLOSE, 1001, "gone"),
    ]
    assert drive.read([STREAM], Limits()) == expected
    assert drive.read(bytewise(STREAM), Limits()) == expected


def test_an_error(drive: ModuleType) -> None:
    found = drive.read([frame(TEXT, "ab") + frame(TEXT, "abc")], Limits(max_size=2))
    assert found == [(TEXT, "ab"), (-2, "MESSAGE_TOO_BIG")]


def test_input_that_comes_faster_than_events_are_asked_for(drive: ModuleType) -> None:
    texts = [str(n) * n for n in range(10)]
    found = drive.read_late([frame(TEXT, text) for text in texts])
    assert found == [text for text in texts for _ in range(2)]


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (b"", (False, False, True)),
        (frame(TEXT, "whole"), (True, False, True)),
        (frame(TEXT, "part", fin=False), (True, False, False)),
        (frame(TEXT, "cut")[:-1], (True, False, False)),
        (frame(TEXT, "cut")[:1], (True, False, False)),
    ],
)
def test_where_a_parser_stands(
    drive: ModuleType, piece: bytes, expected: tuple[bool, bool, bool]
) -> None:
    assert drive.rests(piece) == expected


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames(drive: ModuleType, size: int) -> None:
    payload = b"x" * size
    assert set(drive.build(payload)) == {build_frame(BINARY, payload)}
