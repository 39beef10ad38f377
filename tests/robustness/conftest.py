"""The fixture that has a module's rows run over TCP and over TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.robustness import client


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "wire" in metafunc.fixturenames:
        only_plain = hasattr(metafunc.function, "only_plain")
        metafunc.parametrize("wire", ["tcp"] if only_plain else ["tcp", "tls"], indirect=True)


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the helpers of ``client.py`` connect over during the test."""
    client.wire.is_tls = request.param == "tls"
    yield
    client.wire.is_tls = False
