"""Servers for the programs of the documentation, started when a test asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.docs.programs import SERVERS, Program

Serve = Callable[..., Program]


@pytest.fixture(scope="module", params=SERVERS)
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serves ``docs.programs.NAME`` for the rest of the module, once by each server.

    At the end none of them may have logged a traceback, unless ``fails=True`` said that one is
    meant to. ``fresh=True`` starts one for this test alone.
    """
    running: dict[tuple[str, ...], Program] = {}
    quiet: list[Program] = []
    with ExitStack() as stack:

        def start(
            name: str,
            *options: str,
            other: tuple[str, ...] = (),
            fails: bool = False,
            fresh: bool = False,
        ) -> Program:
            key = (name, str(fails), *options, *other)
            if key in running and not fresh:
                return running[key]
            module = name if "." in name else f"docs.programs.{name}"
            program = Program(module, request.param, *options, other=other)
            stack.enter_context(program)
            if not fails:
                quiet.append(program)
            if not fresh:
                running[key] = program
            return program

        yield start
    for program in quiet:
        program.assert_quiet()
