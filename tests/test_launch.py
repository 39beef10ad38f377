"""What serves a configuration."""

from __future__ import annotations

import pytest

from fastws import reload, server, workers
from fastws.config import Config
from fastws.launch import launch


@pytest.mark.parametrize(
    ("config", "module"),
    [
        (Config("chat:app"), "server"),
        (Config("chat:app", workers=2), "workers"),
        (Config("chat:app", reload=True), "reload"),
    ],
)
def test_who_serves(monkeypatch: pytest.MonkeyPatch, config: Config, module: str) -> None:
    ran: list[tuple[str, Config]] = []
    for name, candidate in (("server", server), ("workers", workers), ("reload", reload)):
        monkeypatch.setattr(candidate, "run", lambda config, name=name: ran.append((name, config)))
    launch(config)
    assert ran == [(module, config)]
