"""Tasks that live no longer than the connection they serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastws.exceptions import WebSocketDisconnect

__all__ = ["ConnectionTasks"]

log = logging.getLogger("fastws.error")

T = TypeVar("T")


class ConnectionTasks:
    """The tasks of one connection: a heartbeat, a subscription, whatever sends beside the handler.

    They are cancelled when the handler has ended or TCP is lost, whichever comes first. One that
    fails is logged and ends alone; one that ends with the connection's own
    :class:`~fastws.exceptions.WebSocketDisconnect` is not worth a word. What runs here counts as
    the handler's own: its sends raise when the peer is gone.

    Parameters:
        name: the connection's, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over = False

    def __len__(self) -> int:
        """Tasks that run."""
        return len(self._tasks)

    def create_task(
        self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> asyncio.Task[T]:
        """Run ``coroutine`` for as long as the connection lives.

        Parameters:
            coroutine: what to run; it starts in the next step of the loop.
            name: the task's.

        Raises:
            RuntimeError: the connection has ended.
        """
        if self._over:
            coroutine.close()
            raise RuntimeError(
                f"connection {self._name} has ended: a task of it would be cancelled at once"
            )
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def cancel(self) -> None:
        """Cancel all of them; none can be added any more. Called when the connection ends."""
        self._over = True
        for task in tuple(self._tasks):
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if isinstance(error, WebSocketDisconnect):
            log.debug("task %s of %s ended with its connection", task.get_name(), self._name)
        else:
            log.error("task %s of %s failed", task.get_name(), self._name, exc_info=error)
