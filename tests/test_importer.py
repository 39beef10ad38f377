"""Finding the application: what a target may be, and what each failure says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastws import FastWS
from fastws.importer import ApplicationError, load_application, traceback_of

MODULES = {
    "simple.py": """
        from fastws import FastWS
        app = FastWS(title="simple")
        other = FastWS(title="other")
        class Holder:
            inner = FastWS(title="inner")
        def make():
            return FastWS(title="made")
        def fail():
            raise LookupError("no settings")
        async def make_later():
            return FastWS()
        number = 5
        cls = FastWS
    """,
    "package/__init__.py": "",
    "package/module.py": "from fastws import FastWS; app = FastWS(title='in a package')",
    "empty.py": "",
    "raises.py": "1 / 0",
    "syntax.py": "def broken(:",
    "exits.py": "import sys; sys.exit(3)",
    "needs.py": "import a_module_that_is_missing",
    "package/needs.py": "import package.missing",
}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with MODULES; what is imported from it is forgotten afterwards."""
    for name, source in MODULES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        lines = [line.removeprefix("        ") for line in source.splitlines()]
        path.write_text("\n".join(lines))
    before, search = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = search


@pytest.mark.parametrize(
    ("target", "title"),
    [
        ("simple:app", "simple"),
        ("simple", "simple"),
        ("simple:other", "other"),
        ("simple:Holder.inner", "inner"),
        ("package.module:app", "in a package"),
        ("package.module", "in a package"),
    ],
)
def test_targets(directory: Path, target: str, title: str) -> None:
    assert load_application(target, app_dir=str(directory)).title == title


def test_a_factory_is_called(directory: Path) -> None:
    app = load_application("simple:make", app_dir=str(directory), factory=True)
    assert app.title == "made"


def test_an_application_is_taken_as_it_is() -> None:
    app = FastWS()
    assert load_application(app) is app
    assert load_application(lambda: app, factory=True) is app


@pytest.mark.parametrize("target", ["", ":app", "simple:", "directory/simple.py", "./simple:app"])
def test_a_target_that_is_none(directory: Path, target: str) -> None:
    with pytest.raises(ApplicationError) as raised:
        load_application(target, app_dir=str(directory))
    assert str(raised.value) == (
        f"{target!r} does not name an application: "
        "expected module:attribute, such as chat:app or package.module:app"
    )


def test_a_missing_module(directory: Path) -> None:
    for target, missing in (
        ("missing_module:app", "missing_module"),
        ("missing_package.module", "missing_package"),
        ("package.missing:app", "package.missing"),
    ):
        with pytest.raises(ApplicationError) as raised:
            load_application(target, app_dir=str(directory))
        expected = f"there is no module {missing!r} in {directory} or on the import path"
        assert str(raised.value) == expected
        assert raised.value.__cause__ is None


def test_a_file_name_in_place_of_a_module(directory: Path) -> None:
    with pytest.raises(ApplicationError, match=r"; leave out \.py: simple:app$"):
        load_application("simple.py", app_dir=str(directory))


def test_a_missing_attribute(directory: Path) -> None:
    with pytest.raises(ApplicationError) as raised:
        load_application("simple:nothing", app_dir=str(directory))
    assert str(raised.value) == (
        "module 'simple' has no attribute 'nothing': did you mean simple:app or simple:other?"
    )
    with pytest.raises(ApplicationError) as raised:
        load_application("empty:nothing", app_dir=str(directory))
    assert str(raised.value) == "module 'empty' has no attribute 'nothing'"
    with pytest.raises(ApplicationError) as raised:
        load_application("empty", app_dir=str(directory))
    assert str(raised.value) == "module 'empty' has no attribute 'app' (name it: empty:attribute)"


@pytest.mark.parametrize(
    ("module", "kind", "sentence"),
    [
        ("raises", ZeroDivisionError, "ZeroDivisionError: division by zero"),
        ("syntax", SyntaxError, "SyntaxError: "),
        ("exits", SystemExit, "SystemExit: 3"),
        (
            "needs",
            ModuleNotFoundError,
            "ModuleNotFoundError: No module named 'a_module_that_is_missing'",
        ),
        (
            "package.needs",
            ModuleNotFoundError,
            "ModuleNotFoundError: No module named 'package.missing'",
        ),
    ],
)
def test_a_module_that_fails_keeps_its_own_error(
    directory: Path, module: str, kind: type[BaseException], sentence: str
) -> None:
    with pytest.raises(ApplicationError) as raised:
        load_application(f"{module}:app", app_dir=str(directory))
    assert str(raised.value).startswith(f"importing {module!r} failed: {sentence}")
    assert type(raised.value.__cause__) is kind


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        ("number", "simple:number is an int, not a FastWS application"),
        ("cls", "simple:cls is the class FastWS, not a FastWS application: name an instance of it"),
        (
            "make",
            "simple:make is a function, not a FastWS application: "
            "if it returns the application, add --factory",
        ),
    ],
)
def test_what_is_no_application(directory: Path, attribute: str, sentence: str) -> None:
    with pytest.raises(ApplicationError) as raised:
        load_application(f"simple:{attribute}", app_dir=str(directory))
    assert str(raised.value) == sentence


def test_factories_that_fail(directory: Path) -> None:
    for attribute, sentence in (
        ("fail", "calling simple:fail failed: LookupError: no settings"),
        ("number", "simple:number is an int: --factory needs a function"),
        ("app", "simple:app is the application itself: leave out --factory"),
    ):
        with pytest.raises(ApplicationError) as raised:
            load_application(f"simple:{attribute}", app_dir=str(directory), factory=True)
        assert str(raised.value) == sentence


def test_the_directory_is_searched_first(directory: Path) -> None:
    load_application("simple", app_dir=str(directory))
    assert sys.path[0] == str(directory)
    load_application("simple", app_dir=str(directory))
    assert sys.path.count(str(directory)) == 1


def test_an_async_factory(directory: Path) -> None:
    with pytest.raises(
        ApplicationError, match=r"is a coroutine, .*: a factory is no async function"
    ):
        load_application("simple:make_later", app_dir=str(directory), factory=True)


def test_a_traceback_begins_where_the_application_does(directory: Path) -> None:
    with pytest.raises(ApplicationError) as raised:
        load_application("simple:fail", app_dir=str(directory), factory=True)
    first, where, *_, last = traceback_of(raised.value.__cause__).splitlines()
    assert first == "Traceback (most recent call last):"
    assert "simple.py" in where
    assert last == "LookupError: no settings"


def test_there_is_none_of_what_did_not_fail_or_did_not_run(directory: Path) -> None:
    assert traceback_of(None) == ""
    (directory / "broken.py").write_text("def app:\n")
    with pytest.raises(ApplicationError) as raised:
        load_application("broken", app_dir=str(directory))
    assert "Traceback" not in traceback_of(raised.value.__cause__)
