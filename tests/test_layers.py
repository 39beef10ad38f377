"""The direction of imports: a module may import from its own layer and from those below it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "fastws"

#: The layers from the lowest. A new module takes its place here, which is a decision about design.
LAYERS: list[set[str]] = [
    {"_json", "codes", "deflate_library", "events", "exceptions", "limits"},
    {"_codec", "client_handshake", "deflate", "handshake", "http_fields", "http_head"},
    {"_protocol", "protocol"},
    {
        *{"_asgi_channel", "_awaitables", "_channel", "_closing", "_connection", "_liveness"},
        *{"_buffers", "_outlet", "_receive_queue", "_receiver", "_standing", "_timers", "_waking"},
        *{"_writer", "intake"},
    },
    {
        *{"asgi_connection", "datastructures", "messages", "read_ahead", "requests", "responses"},
        *{"broadcasting", "client_socket", "iterating", "tasks", "websocket"},
    },
    {
        *{"app", "conversions", "dependencies", "error_handlers", "injection", "middleware"},
        *{"parameters", "paths", "routing", "security", "signatures"},
    },
    {
        *{"combinations", "kinds", "launch", "reports", "server_command", "settings"},
        *{"access_log", "metrics", "shutdown"},
        *{"cli", "client", "config", "http11", "hub", "importer", "logs", "options", "server"},
        *{"console", "dialing", "reconnect", "terminal", "tunnel"},
        *{"accepting", "addresses", "proxies", "sockets", "testing", "tls", "tls_handshake"},
        *{"pytest_plugin", "workers"},
        *{"distributor", "pipe", "reload", "worker", "worker_process"},
    },
    {"integrations"},
]

#: What belongs to no layer: it offers what the layers hold.
FACADE = {"__init__", "__main__"}

#: Where a layer opens what stands on it, for the user's convenience: app.serve(), and an
#: application called as an ASGI application. In a function's body, so that nothing is imported
#: before it is asked for.
DOORS = {("app", "server"), ("app", "integrations")}

LOWEST_WITH_IO = 3
IO_MODULES = {"asyncio", "selectors", "socket", "socketserver", "ssl", "uvloop"}

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

SOURCES = sorted(
    path
    for suffix in ("*.py", "*.pyx", "*.pxd", "*.pyi")
    for path in PACKAGE.rglob(suffix)
    if "__pycache__" not in path.parts
)

# Cython is no Python that ast could read. Its imports are lines of their own; a parenthesised list
# of names does not matter, except where the names are modules: `from fastws cimport (_codec, ...)`.
CYTHON_FROM = re.compile(r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^\n#]*)", re.MULTILINE)
CYTHON_IMPORT = re.compile(r"^\s*c?import\s+([\w., \t]+)", re.MULTILINE)
STRINGS_AND_COMMENTS = re.compile(r'"""(?:.|\n)*?"""|#[^\n]*')


def module_of(path: Path) -> str:
    """The name by which LAYERS knows the file."""
    return path.relative_to(PACKAGE).parts[0].split(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, by its full name; `from a import b` gives a and a.b."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".py", ".pyi"):
        module = module_of(path)
        for name, in_function in python_imports(ast.parse(text), path):
            part = f"{name}.".split(".")[1]
            if not (in_function and (module, part) in DOORS):
                yield name
    else:
        yield from cython_imports(text)


def python_imports(tree: ast.Module, path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported name, and whether a function body imports it."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    deferred = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        yield from ((name, id(node) in deferred) for name in imported_by(node, path))


def imported_by(node: ast.AST, path: Path) -> Iterator[str]:
    package = ["fastws", *path.relative_to(PACKAGE).parts[:-1]]
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*start, *filter(None, [node.module])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def cython_imports(text: str) -> Iterator[str]:
    text = STRINGS_AND_COMMENTS.sub("", text)
    for found in CYTHON_FROM.finditer(text):
        base = found[1]
        assert not base.startswith("."), "write cimports with the package's name"
        yield base
        for name in found[2].strip("() \t\n").split(","):
            if name.strip():
                yield f"{base}.{name.split()[0]}"
    for found in CYTHON_IMPORT.finditer(text):
        for name in found[1].split(","):
            yield name.split()[0]


def own_modules(path: Path) -> set[str]:
    """The modules of fastws that the file imports, as LAYERS knows them."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("fastws.")}
    return {name for name in names if name in LEVEL or (PACKAGE / f"{name}.py").exists()}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_module_has_a_layer() -> None:
    assert SOURCES
    unknown = {relative(path) for path in SOURCES if module_of(path) not in LEVEL.keys() | FACADE}
    assert not unknown, f"give these a place in LAYERS: {sorted(unknown)}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_to_the_same_layer_or_below(path: Path) -> None:
    module = module_of(path)
    level = LEVEL.get(module)
    if level is None:
        return  # The facade; what is unknown fails the test above.
    above = {name for name in own_modules(path) if LEVEL.get(name, level) > level}
    assert not above, f"{relative(path)} is in layer {level} and imports {sorted(above)} above it"
    facade = own_modules(path) & FACADE
    assert not facade, f"{relative(path)} imports {sorted(facade)}, which import everything"


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if LEVEL.get(module_of(path), LOWEST_WITH_IO) < LOWEST_WITH_IO],
    ids=relative,
)
def test_sans_io_layers_import_no_io(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)} & IO_MODULES
    assert not found, f"{relative(path)} is sans-I/O and imports {sorted(found)}"


def test_reading_cython_imports() -> None:
    text = """
        from cpython.bytes cimport PyBytes_AS_STRING
        from fastws._codec cimport (  # a comment
            FrameParser,
            build_frame,
        )
        from fastws import _protocol as protocol, limits
        import asyncio, os.path
        cimport cython
        # import socket
    """
    assert set(cython_imports(text)) == {
        "asyncio",
        "cpython.bytes",
        "cpython.bytes.PyBytes_AS_STRING",
        "cython",
        "fastws",
        "fastws._codec",
        "fastws._codec.FrameParser",
        "fastws._codec.build_frame",
        "fastws._protocol",
        "fastws.limits",
        "os.path",
    }
