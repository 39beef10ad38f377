"""From ``"module:attribute"`` to the application, with an error that says which step failed."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

from fastws.app import FastWS

__all__ = ["ApplicationError", "load_application", "traceback_of"]

DEFAULT_ATTRIBUTE = "app"
"""What a bare ``module`` is searched for."""


class ApplicationError(Exception):
    """The application cannot be had. The message is one sentence for the user.

    ``__cause__`` is set if the application's own code failed: its traceback is what helps then.
    """


def traceback_of(error: BaseException | None) -> str:
    """Where the application failed, as text, without the frames that only led there.

    Empty without an error; without any frame where it could not even be compiled.
    """
    if error is None:
        return ""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.endswith(
        ("fastws/importer.py", "importlib/__init__.py")
    )


def load_application(target: Any, *, app_dir: str = ".", factory: bool = False) -> FastWS:
    """Import and return the application.

    Parameters:
        target: an application, or ``"module:attribute"`` (``"module"`` means ``module:app``;
            ``attribute`` may have dots).
        app_dir: directory put in front of the import path.
        factory: call what was found, without arguments, to get the application.

    Raises:
        ApplicationError: the module or the attribute does not exist, importing or calling it
            failed, or it is not a fastws application.
    """
    if not isinstance(target, str):
        return _check(_call(target, "the factory") if factory else target, "the object to serve")
    module_name, colon, attributes = target.partition(":")
    if not module_name or (colon and not attributes) or "/" in target:
        raise ApplicationError(
            f"{target!r} does not name an application: "
            "expected module:attribute, such as chat:app or package.module:app"
        )
    attributes = attributes or DEFAULT_ATTRIBUTE
    directory = str(Path(app_dir).resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)

    found: Any = _import(module_name, directory)
    for name in attributes.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ApplicationError(
                f"module {module_name!r} has no attribute {attributes!r}"
                f"{_hint(sys.modules[module_name], module_name, named=bool(colon))}"
            ) from None
    where = f"{module_name}:{attributes}"
    return _check(_call(found, where) if factory else found, where)


def _hint(module: Any, module_name: str, *, named: bool) -> str:
    """What to write instead: the names of the applications that the module has."""
    there = [name for name, value in vars(module).items() if isinstance(value, FastWS)]
    if there:
        return f": did you mean {' or '.join(f'{module_name}:{name}' for name in there)}?"
    return "" if named else f" (name it: {module_name}:attribute)"


def _import(module_name: str, directory: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The module itself (or a package around it) is missing, as opposed to one it imports.
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            hint = f"; leave out .py: {module_name[:-3]}:app" if module_name.endswith(".py") else ""
            raise ApplicationError(
                f"there is no module {error.name!r} in {directory} or on the import path{hint}"
            ) from None
        raise ApplicationError(f"importing {module_name!r} failed: {_first_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise ApplicationError(f"importing {module_name!r} failed: {_first_line(error)}") from error


def _call(factory: Any, where: str) -> Any:
    if isinstance(factory, FastWS):  # callable too, by a server that speaks ASGI
        raise ApplicationError(f"{where} is the application itself: leave out --factory")
    if not callable(factory):
        raise ApplicationError(f"{where} is {_article(factory)}: --factory needs a function")
    try:
        return factory()
    except Exception as error:
        raise ApplicationError(f"calling {where} failed: {_first_line(error)}") from error


def _check(found: Any, where: str) -> FastWS:
    if isinstance(found, FastWS):
        return found
    hint = ""
    if inspect.iscoroutine(found):
        found.close()
        hint = ": a factory is no async function; what must be awaited can be in the lifespan"
    elif inspect.isclass(found):
        hint = ": name an instance of it"
    elif inspect.isfunction(found):
        hint = ": if it returns the application, add --factory"
    raise ApplicationError(f"{where} is {_article(found)}, not a FastWS application{hint}")


def _article(thing: object) -> str:
    if inspect.isclass(thing):
        return f"the class {thing.__qualname__}"
    name = type(thing).__qualname__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
