"""The stub of a compiled module says what the module is: no more, no less, the same signatures."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT, TIMEOUT

COMPILED = sorted(path.stem for path in (ROOT / "fastws").glob("_*.pyx"))

#: What Cython adds to every module or class, and no stub names.
FROM_CYTHON = {"__pyx_capi__", "__pyx_unpickle_Enum", "__reduce_cython__", "__setstate_cython__"}


def load(name: str) -> ModuleType:
    return importlib.import_module(f"fastws.{name}")


def stub(name: str) -> Path:
    return ROOT / "fastws" / f"{name}.pyi"


def parse(name: str) -> ast.Module:
    return ast.parse(stub(name).read_text(encoding="utf-8"))


def declared(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """The names that a stub's module or class defines; what it imports is not its own."""
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.If):
            names |= declared(node.body) | declared(node.orelse)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return names


def defined(module: ModuleType) -> set[str]:
    """The public names that a compiled module makes itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or callable(value))
        and getattr(value, "__module__", None) == module.__name__
    }


def stub_classes() -> list[tuple[str, str]]:
    return [
        (name, node.name)
        for name in COMPILED
        if stub(name).exists()
        for node in parse(name).body
        if isinstance(node, ast.ClassDef) and hasattr(load(name), node.name)
    ]


def test_there_are_compiled_modules() -> None:
    assert "_codec" in COMPILED


@pytest.mark.parametrize("name", COMPILED)
def test_every_compiled_module_has_header_and_stub(name: str) -> None:
    for suffix in (".pxd", ".pyi"):
        assert stub(name).with_suffix(suffix).exists(), f"fastws/{name}{suffix} is missing"


@pytest.mark.parametrize("name", COMPILED)
def test_module_and_stub_have_the_same_public_names(name: str) -> None:
    module = load(name)
    in_stub = set(declared(parse(name).body))
    missing = sorted(defined(module) - in_stub)
    assert not missing, f"fastws/{name}.pyi does not name {missing}"
    invented = sorted(name for name in in_stub if name[0] != "_" and not hasattr(module, name))
    assert not invented, f"fastws/{name}.pyi names {invented}, which the module does not have"


@pytest.mark.parametrize(("name", "class_name"), stub_classes())
def test_class_and_stub_have_the_same_public_attributes(name: str, class_name: str) -> None:
    compiled = getattr(load(name), class_name)
    node = declared(parse(name).body)[class_name]
    assert isinstance(node, ast.ClassDef)
    in_stub = {member for member in declared(node.body) if not member.startswith("_")}
    in_class = {member for member in vars(compiled) if not member.startswith("_")} - FROM_CYTHON
    assert in_stub == in_class


@pytest.mark.parametrize("name", COMPILED)
def test_public_functions_and_methods_have_a_signature(name: str) -> None:
    module = load(name)
    for public in sorted(defined(module)):
        value = getattr(module, public)
        members = vars(value).values() if inspect.isclass(value) else [value]
        for member in members:
            if callable(member) and not member.__name__.startswith("_"):
                inspect.signature(member)  # Raises ValueError where there is none.


@pytest.mark.slow
@pytest.mark.timeout(48 * TIMEOUT)
def test_stubtest_finds_no_difference() -> None:
    """mypy's stubtest compares parameters, defaults, properties and bases with the live module."""
    done = subprocess.run(
        [
            *[sys.executable, "-m", "mypy.stubtest", "--concise"],
            *["--mypy-config-file", "pyproject.toml"],
            *["--allowlist", "tests/stubtest_allowlist.txt", "--ignore-unused-allowlist"],
            *(f"fastws.{name}" for name in COMPILED),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40 * TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
