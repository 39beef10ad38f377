"""What the package offers: these names, each with its documentation, and nothing by accident."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastws
from tests.support import ROOT, TIMEOUT

APPLICATION = {
    *{"APIRouter", "APIWebSocketRoute", "Cookie", "Depends", "FastWS", "HTMLResponse", "Header"},
    *{"JSONResponse", "Middleware", "Path", "PlainTextResponse", "Query", "Request", "Response"},
}
CONNECTION = {"TypedWebSocket", "WebSocket", "WebSocketState", "broadcast", "connect"}
ERRORS = {
    *{"HTTPException", "HandshakeError", "MessageError", "WebSocketClosed", "WebSocketDisconnect"},
    *{"WebSocketException", "WebSocketTypeError"},
}
LIBRARY = {
    *{"ClientProtocol", "CloseCode", "DeflateOptions", "FrameParser", "Limits", "Opcode"},
    *{"PreparedMessage", "Protocol", "ServerProtocol", "build_frame", "get_include"},
}
PUBLIC = APPLICATION | CONNECTION | ERRORS | LIBRARY

REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def stub_docstring(value: object) -> str | None:
    """That of a compiled class or function, which stands in its module's stub."""
    name, module = getattr(value, "__name__", ""), getattr(value, "__module__", "")
    path = ROOT.joinpath(*module.split(".")).with_suffix(".pyi")
    if not path.exists():
        return None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return ast.get_docstring(node)
    return None


def rows(heading: str) -> dict[str, str]:
    """The rows of a table of the reference: the first cell, and the rest."""
    section = REFERENCE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = dict(re.findall(r"^\| (`[^|]+`) \| (.+) \|$", section, re.M))
    assert found
    return found


def quoted(text: str) -> list[str]:
    return re.findall(r"`(\w+(?:\.\w+)*)`", text)


def test_the_names_are_these() -> None:
    assert set(fastws.__all__) == PUBLIC
    assert len(fastws.__all__) == len(PUBLIC)


def test_nothing_else_is_public() -> None:
    """Submodules are there because they have been imported; their names are not the package's.

    Names with an @ are pytest's, which rewrites a package that has a plugin for it.
    """
    others = {
        name
        for name, value in vars(fastws).items()
        if name[0] not in "_@" and name not in PUBLIC and not is_submodule(name, value)
    }
    assert not others


def is_submodule(name: str, value: object) -> bool:
    return isinstance(value, ModuleType) and value.__name__ == f"fastws.{name}"


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_is_documented(name: str) -> None:
    value = getattr(fastws, name)
    assert value.__module__.partition(".")[0] == "fastws"
    assert stub_docstring(value) or inspect.getdoc(value)
    assert name in [word for row in rows("From `fastws`") for word in quoted(row)]


def test_the_reference_names_nothing_else() -> None:
    assert {word for row in rows("From `fastws`") for word in quoted(row)} == PUBLIC


@pytest.mark.parametrize("module", rows("From its modules"))
def test_what_the_reference_names_in_modules_is_theirs_to_offer(module: str) -> None:
    (path,) = quoted(module)
    offered = importlib.import_module(path)
    words = quoted(rows("From its modules")[module].partition(": ")[0])
    assert words
    for word in words:
        assert hasattr(offered, word), f"{path} has no {word}"
        assert word in getattr(offered, "__all__", [word]), f"{path}.__all__ lacks {word}"


def test_a_star_import_gives_them_all() -> None:
    names: dict[str, object] = {}
    exec("from fastws import *", names)
    assert names.keys() - {"__builtins__"} == PUBLIC


#: What only a command, an option or another server needs; and what no import of a library should
#: bring along.
NOT_FOR_AN_IMPORT = {
    *{"click", "prometheus_client", "prompt_toolkit", "uvloop", "watchfiles", "dotenv"},
    *{"uvicorn", "starlette", "pydantic", "pytest", "tomli", "multiprocessing"},
    *{"fastws.cli", "fastws.server", "fastws.testing", "fastws.workers", "fastws.metrics"},
}


def test_an_import_brings_little_along() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, fastws; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & NOT_FOR_AN_IMPORT == set()


def test_the_headers_are_where_get_include_says() -> None:
    included = Path(fastws.get_include())
    names = re.findall(r'extern from "(\w+\.h)"', (included / "_codec.pxd").read_text())
    assert names
    for name in names:
        assert (included / name).is_file()
