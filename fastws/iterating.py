"""Iterating over the messages of one kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fastws.exceptions import WebSocketDisconnect

if TYPE_CHECKING:
    import builtins
    from collections.abc import Coroutine

__all__ = ["Iterating"]

T = TypeVar("T")


class Iterating:
    """What a :class:`~fastws._channel.Channel` can do in a loop, besides ``async for``."""

    __slots__ = ()

    if TYPE_CHECKING:

        def receive_text(self, timeout: float | None = None) -> Coroutine[Any, Any, str]: ...
        def receive_bytes(self, timeout: float | None = None) -> Coroutine[Any, Any, bytes]: ...
        def receive_json(
            self, mode: str = "text", timeout: float | None = None, *, type: Any = None
        ) -> Coroutine[Any, Any, Any]: ...

    async def iter_text(self) -> AsyncIterator[str]:
        """Every message, which are all text; ends when the connection does."""
        try:
            while True:
                yield await self.receive_text()
        except WebSocketDisconnect:
            return

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Every message, which are all binary; ends when the connection does."""
        try:
            while True:
                yield await self.receive_bytes()
        except WebSocketDisconnect:
            return

    @overload
    def iter_json(self, mode: str = "text", *, type: None = None) -> AsyncIterator[Any]: ...
    @overload
    def iter_json(self, mode: str = "text", *, type: builtins.type[T]) -> AsyncIterator[T]: ...
    @overload
    def iter_json(self, mode: str = "text", *, type: Any) -> AsyncIterator[Any]: ...
    async def iter_json(self, mode: str = "text", *, type: Any = None) -> AsyncIterator[Any]:
        """Every message, read as JSON; ends when the connection does.

        Parameters are those of ``receive_json()``. An error that it raises ends the iteration; to
        go on after a :class:`~fastws.exceptions.MessageError`, call ``receive_json()``.
        """
        try:
            while True:
                yield await self.receive_json(mode, type=type)
        except WebSocketDisconnect:
            return
