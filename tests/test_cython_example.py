"""examples/cython_relay: a project that cimports the codec is built by pip, installed, and used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import tomli

import fastws
from fastws import Limits, build_frame
from tests.support import ROOT, TIMEOUT
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    bytewise,
    close_payload,
    fragments,
    frame,
)

EXAMPLE = ROOT / "examples" / "cython_relay"
PAGE = ROOT / "docs" / "guide" / "cython.md"

pytest.importorskip("Cython")


@pytest.fixture(scope="module")
def relay_class(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("relay")
    shutil.copytree(EXAMPLE, folder / "project", ignore=shutil.ignore_patterns("build", "*.egg*"))
    # A sanitizer's runtime that is preloaded for the tests must not judge the compiler; pip runs
    # the build elsewhere, where the tree under test must be the first to be found all the same.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environment["PYTHONPATH"] = str(ROOT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, *offline, "--target", str(folder / "site"), str(folder / "project")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=40 * TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder / "site"))
    try:
        module = import_module("fastws_relay")
    finally:
        sys.path.remove(str(folder / "site"))
    assert Path(module.__path__[0]).is_relative_to(folder)
    return module.Relay


pytestmark = pytest.mark.slow


STREAM = b"".join(
    [
        frame(TEXT, "héllo"),
        fragments(BINARY, b"in ", b"", b"parts"),
        frame(PONG, b"unasked"),
        frame(TEXT, "a", fin=False),
        frame(PING, b"1"),
        frame(CONT, "b" * 70_000),
        frame(CLOSE, close_payload(4001, "enough")),
        frame(TEXT, "late"),
    ]
)

OTHERS = build_frame(TEXT, "héllo") + build_frame(BINARY, b"in parts")
OTHERS += build_frame(TEXT, "a" + "b" * 70_000)
SENDER = build_frame(PONG, b"1") + build_frame(CLOSE, close_payload(4001))


@pytest.mark.parametrize("pieces", [[STREAM], list(bytewise(STREAM))], ids=["whole", "bytewise"])
def test_messages_go_to_the_others_and_answers_to_the_sender(
    relay_class: Any, pieces: list[bytes]
) -> None:
    relay = relay_class()
    others, sender = zip(*[relay.feed(piece) for piece in pieces], strict=True)
    assert (b"".join(others), b"".join(sender)) == (OTHERS, SENDER)
    assert (relay.messages, relay.payload_bytes) == (3, 6 + 8 + 70_001)
    assert relay.is_finished
    assert relay.feed(frame(TEXT, "later")) == (b"", b"")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(TEXT, "x", key=None), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, "abcdefghi"), 1009),
    ],
)
def test_a_violation_is_answered_behind_the_messages_before_it(
    relay_class: Any, wrong: bytes, code: int
) -> None:
    relay = relay_class(Limits(max_size=8))
    answers = relay.feed(frame(TEXT, "abcdefgh") + wrong)
    assert answers == (build_frame(TEXT, "abcdefgh"), build_frame(CLOSE, close_payload(code)))
    assert relay.is_finished


def test_a_close_without_a_code_is_answered_likewise(relay_class: Any) -> None:
    assert relay_class().feed(frame(CLOSE)) == (b"", build_frame(CLOSE))


def test_arguments_of_the_wrong_type_raise(relay_class: Any) -> None:
    with pytest.raises(TypeError):
        relay_class().feed("text")
    with pytest.raises(TypeError):
        relay_class(max_size=8)


def test_it_wants_the_version_that_it_is_compiled_against() -> None:
    project = tomli.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = f"fastws=={fastws.__version__}"
    assert project["project"]["dependencies"] == [pinned]
    assert pinned in project["build-system"]["requires"]


def test_the_page_shows_the_example_and_names_what_the_header_has() -> None:
    page = PAGE.read_text(encoding="utf-8")
    source = (EXAMPLE / "fastws_relay" / "_relay.pyx").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S)
    shown = [text for language, text in blocks if language == "cython"]
    assert shown
    for text in shown:
        for part in text.split("\n    ...\n"):
            assert part.strip("\n") in source, part
    assert (EXAMPLE / "setup.py").read_text(encoding="utf-8").partition('"""\n\n')[2] in page
    header = (ROOT / "fastws" / "_codec.pxd").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^|]+)` \|", page, re.M)
    assert len(rows) > 10
    for row in rows:
        for name in row.split("`, `"):
            assert re.search(rf"\b{re.escape(name.partition('(')[0])}\b", header), name
