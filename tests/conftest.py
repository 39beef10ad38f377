"""What holds for every test: a hard timeout, and nothing that goes wrong unheard."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import TIMEOUT

#: Seconds for a whole test, set-up included; above support.RUN_TIMEOUT, whose message says more.
TEST_TIMEOUT = 12 * TIMEOUT

# How long an example takes says something about the machine; tests have TEST_TIMEOUT. On CI the
# same examples each time: a failure must be that of the change.
settings.register_profile(
    "fastws",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("fastws")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            scale = 5 if item.get_closest_marker("slow") else 1
            item.add_marker(pytest.mark.timeout(scale * TEST_TIMEOUT))


class LoopErrors(logging.Handler):
    """Collects what event loops report because nobody else would: failed callbacks, lost tasks.

    Without a handler of its own, a loop logs these to "asyncio" at level ERROR.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@pytest.fixture(autouse=True)
def loop_errors() -> Iterator[LoopErrors]:
    """Fails a test in which an event loop reported an unhandled error.

    A test that means to provoke one asserts on `messages` and clears the list. Warnings of the
    interpreter need no fixture: "never awaited", unclosed resources and exceptions in
    destructors are errors by pyproject.toml.
    """
    handler = LoopErrors()
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
    if handler.messages:
        pytest.fail("an event loop reported:\n" + "\n".join(handler.messages))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: many are masked at random, and a test has the same name in each
    of the processes that share the tests out."""
    return f"{len(val)}B" if isinstance(val, bytes) else None
