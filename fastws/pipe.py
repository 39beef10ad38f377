"""What a supervisor and its workers say to each other: lines of JSON over a socket pair.

The supervisor hands over what to serve (:class:`HandOver`) and then gives orders; a worker reports.
Either sees the other's end by the end of the stream.

=============  ================================================================================
order          meaning
=============  ================================================================================
``stop``       stop accepting, close every connection in order, end; once more: cut what is open
``give_way``   stop accepting, go on for at most so many seconds with opening handshakes and
               requests, then as ``stop``
``adopt``      listen on the sockets of the worker with this index too, which cannot
``give_back``  leave those to it again
=============  ================================================================================

=============  ================================================================================
report         meaning
=============  ================================================================================
``ready``      it accepts connections; with the routes it serves
``alive``      its loop turns
``leaving``    it accepts no more, for somebody else than the supervisor has told it to stop
``failed``     it ends because of this, as a :class:`Failure`
=============  ================================================================================
"""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastws.config import Config, ConfigError
from fastws.importer import ApplicationError, traceback_of
from fastws.sockets import BindError

__all__ = ["Failure", "HandOver", "Pipe"]

Message = dict[str, Any]

_CHUNK = 64 * 1024

_LONGEST_TRACEBACK = 32 * 1024
"""Characters of a traceback that are reported: what a socket's buffer holds with certainty."""


class Pipe:
    """One end of the stream. A message is an object with one key, the name of order or report.

    Parameters:
        stream: this end of a socket pair; closed by :meth:`close`.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._received = bytearray()
        self._ended = False

    def send(self, name: str, value: object = None) -> None:
        """Say something; to nobody, if the other end is closed or reads nothing any more."""
        line = json.dumps({name: value}).encode() + b"\n"
        try:
            self._stream.sendall(line)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            # The end of the stream, or of the other's patience, says the rest.
            pass

    def receive(self) -> Message | None:
        """Wait for one message; ``None`` at the end of the stream. Not once attached."""
        while b"\n" not in self._received:
            data = self._stream.recv(_CHUNK)
            if not data:
                return None
            self._received += data
        return self._next()

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], object],
        on_end: Callable[[], object],
    ) -> None:
        """Have messages, and then the end of the stream, reported in ``loop``."""
        self._stream.setblocking(False)
        loop.add_reader(self._stream, self._readable, loop, on_message, on_end)

    def read_rest(self, on_message: Callable[[Message], object]) -> None:
        """Report what has arrived and was not reported yet."""
        try:
            while data := self._stream.recv(_CHUNK):
                self._received += data
            self._ended = True
        except BlockingIOError:
            pass
        except OSError:
            self._ended = True
        while b"\n" in self._received:
            on_message(self._next())

    def detach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report nothing any more."""
        loop.remove_reader(self._stream)

    def close(self) -> None:
        self._stream.close()

    def _readable(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], object],
        on_end: Callable[[], object],
    ) -> None:
        self.read_rest(on_message)
        if self._ended and self._stream.fileno() != -1:
            self.detach(loop)
            on_end()

    def _next(self) -> Message:
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        message: Message = json.loads(line)
        return message


@dataclass(frozen=True)
class HandOver:
    """What a worker has to know before it can begin.

    Parameters:
        config: what to serve and how.
        argv: the command line that the application sees.
        index: which of the workers it is, from 0.
        groups: the descriptors that each worker listens on. This one has them all, so that it can
            stand in for another.
        queues: whether these are of the kind :class:`fastws.accepting.AcceptQueue`.
    """

    config: Config
    argv: list[str]
    index: int
    groups: list[list[int]]
    queues: bool = False

    def send(self, pipe: Pipe) -> None:
        """Hand over.

        Raises:
            TypeError: the configuration has an object that cannot leave this process.
        """
        # A Config knows how to be pickled; both ends are this program.
        pipe.send("hand_over", base64.b64encode(pickle.dumps(self)).decode("ascii"))

    @staticmethod
    def receive(pipe: Pipe) -> HandOver | None:
        """Wait for what the supervisor hands over; ``None`` if it has ended."""
        message = pipe.receive()
        if message is None:
            return None
        received: HandOver = pickle.loads(base64.b64decode(message["hand_over"]))
        return received


@dataclass(frozen=True)
class Failure:
    """Why a worker ended, in a form that another process can show.

    Parameters:
        kind: which exception :meth:`error` makes.
        sentence: for the user.
        traceback: where the application's code failed; empty if that says nothing.
    """

    kind: str
    sentence: str
    traceback: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Describe what ended a server."""
        match error:
            case ConfigError():
                return cls("config", str(error))
            case BindError():
                return cls("bind", str(error))
            case ApplicationError():
                trace = traceback_of(error.__cause__)
                return cls("application", str(error), trace[-_LONGEST_TRACEBACK:])
        sentence = f"the application failed to start or to stop: {type(error).__name__}: {error}"
        return cls("application", sentence, traceback_of(error)[-_LONGEST_TRACEBACK:])

    def __str__(self) -> str:
        """The sentence, then the traceback if there is one."""
        return f"{self.sentence}\n{self.traceback}".rstrip()

    def report(self, pipe: Pipe) -> None:
        pipe.send("failed", asdict(self))

    def error(self) -> Exception:
        """What the server would have raised in this process; its traceback is text only."""
        kinds: dict[str, type[Exception]] = {"config": ConfigError, "bind": BindError}
        return kinds.get(self.kind, ApplicationError)(self.sentence)
