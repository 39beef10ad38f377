"""The test clients of one test, for the pytest fixture ``fastws_client``."""

from __future__ import annotations

from typing import Any

from fastws.testing.sync import TestClient

__all__ = ["Clients"]


class Clients:
    """Makes test clients; closes them all in the end."""

    def __init__(self) -> None:
        self._made: list[_LastingClient] = []

    def make(self, app: Any, **options: Any) -> TestClient:
        """A test client of ``app``; the parameters are those of :class:`TestClient`."""
        client = _LastingClient(app, **options)
        self._made.append(client)
        return client

    def close(self) -> list[str]:
        """Close what is open.

        Returns:
            What has gone wrong, a sentence each.
        """
        problems = []
        for client in self._made:
            try:
                client.close()
            except Exception as error:
                problems.append(f"closing a test client raised {error!r}")
            if client.is_open:
                problems.append("a test client is still open: leave its `async with` block")
            problems += [f"left running: {leak}" for leak in client.leaks]
        return problems


class _LastingClient(TestClient):
    """A client that serves from its first use to the end of the test, if it is in no block."""

    _is_held = False

    def _enter(self, *, lifespan: bool) -> None:
        if not self.is_open and not lifespan:
            super()._enter(lifespan=True)
            self._is_held = True
        super()._enter(lifespan=lifespan)

    def close(self) -> None:
        if self._is_held:
            self._is_held = False
            self._leave()
