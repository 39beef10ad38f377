"""One WebSocket on an asyncio or uvloop transport: its opening handshake, its handler, its bytes."""

import logging
import sys
from contextvars import copy_context
from functools import partial
from http import HTTPStatus

from cpython.buffer cimport PyBUF_WRITE
from libc.stdint cimport uint8_t

from fastws._awaitables cimport READY, wake_all
from fastws._buffers cimport note_long_message
from fastws._codec cimport OP_PONG
from fastws._protocol cimport CLOSING, CONNECTED, CONNECTING, DISCONNECTED
from fastws._standing cimport current_connection
from fastws._timers cimport TimerWheel

import orjson

from fastws import deflate, handshake, http_head
from fastws.codes import encode_close
from fastws.exceptions import HTTPException, WebSocketDisconnect, ending_of
from fastws.http_fields import normalize_headers
from fastws.intake import Intake

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)

cdef enum:
    LONG = 65536  # bytes of payload still to come from which they are read in place
    MAX_EARLY = 65536  # bytes kept of a peer that sends before its handshake is answered
    NO_STATUS = 1005
    INTERNAL_ERROR = 1011

cdef bint CONTEXT_FOR_TASK = sys.version_info >= (3, 11)
cdef object log = logging.getLogger("fastws.error")


def running_connection():
    return current_connection.get(None)


cdef class Connection(Closing):
    def __init__(
        self,
        transport,
        upgrade,
        bytes head,
        *,
        TimerWheel timers,
        limits,
        deflate=None,
        client=None,
        server=None,
        bint secure=False,
        str root_path="",
        lifespan_state=None,
        extra_headers=(),
        bint strict_send=False,
        on_answered=None,
        on_lost=None,
    ):
        self.transport = transport
        self.upgrade = upgrade
        self.head = head
        self.timers = timers
        self.timer = timers.timer(self)
        self.limits = limits
        self.deflate_options = deflate
        self.known_client = client
        self.server = server
        self.secure = secure
        self.root_path = root_path
        self.lifespan_state = lifespan_state
        self.extra_headers = extra_headers
        self.strict_send = strict_send
        self.on_answered = on_answered
        self.on_lost = on_lost
        self.max_queue = limits.max_queue
        self.max_queue_bytes = limits.max_queue_bytes

    @property
    def client(self):
        if self.known_client is None and self.transport is not None:
            peername = self.transport.get_extra_info("peername")
            # That of IPv6 has four parts; that of a Unix socket is a path.
            return peername[:2] if isinstance(peername, tuple) else None
        return self.known_client

    @property
    def subprotocols(self):
        if self.upgrade is not None:
            return self.upgrade.subprotocols
        return handshake.check_upgrade(http_head.parse_request(self.head)).subprotocols

    # -- the opening handshake ---------------------------------------------------------------

    def start(
        self, ws, coroutine, bytes early=b"", *, bint cancel_on_disconnect=False, str name=None
    ):
        self._take_transport()
        self.early = early
        self.cancel_on_disconnect = cancel_on_disconnect
        if self.limits.accept_timeout is not None:
            self.timer.start(self.limits.accept_timeout)
        # The handler's context, and that of every task it starts, names this connection.
        context = copy_context()
        context.run(current_connection.set, self)
        if CONTEXT_FOR_TASK and self.timers.loop.get_task_factory() is None:
            self.task = self.timers.loop.create_task(coroutine, name=name, context=context)
        else:
            self.task = context.run(partial(self.timers.loop.create_task, coroutine, name=name))
        # This object and a context that is there, so that none is made to be kept.
        self.task.add_done_callback(self, context=context)

    cdef object accept(self, object subprotocol, object headers):
        cdef object options = self.deflate_options
        cdef object agreed = None
        self.check_thread()
        if self.upgrade is None:
            self._check_not_lost()
            raise RuntimeError(
                "the WebSocket was refused: it cannot be accepted any more"
                if self.parser is None
                else "the WebSocket is accepted already: accept() is called once a connection"
            )
        if options is not None:
            agreed = deflate.negotiate(self.upgrade.extensions, options)
        response = handshake.accept_response(
            self.upgrade,
            subprotocol=subprotocol,
            extensions=None if agreed is None else agreed[0],
            headers=headers,
            server_headers=self.extra_headers,
        )
        self.write(response)
        self.upgrade = None
        self.extra_headers = None
        self.subprotocol = subprotocol
        early = self.early
        self.early = None
        if agreed is None:
            self._open_with(None, None, 0)
        else:
            self._open_with(
                deflate.inflater_for(agreed[1], client=False),
                deflate.deflater_for(agreed[1], options, client=False),
                options.threshold,
            )
        self._answered(response)
        self._read_early(early)
        return READY

    def start_client(
        self, bytes early=b"", *, str subprotocol=None, inflater=None, deflater=None, threshold=0
    ):
        if self.upgrade is not None:
            raise RuntimeError("start_client() is the client's end: a server calls start()")
        if self.state != CONNECTING:
            raise RuntimeError("start_client() is called once a connection")
        self.is_client = True
        self.strict_send = True
        self.subprotocol = subprotocol
        self._take_transport()
        self._open_with(inflater, deflater, threshold)
        self._read_early(early)

    cdef int _take_transport(self) except -1:
        self.transport.set_protocol(self)
        self.transport.set_write_buffer_limits(
            high=self.limits.write_limit, low=self.limits.write_limit // 4
        )
        return 0

    cdef int _open_with(
        self, object inflater, object deflater, Py_ssize_t threshold
    ) except -1:
        """The opening handshake is done."""
        self.open(self.limits, inflater, deflater, threshold)
        if self.limits.message_rate is not None:
            self.limit_rate(self.limits.message_rate)
        return self.start_looking()

    cdef int _read_early(self, bytes early) except -1:
        """Read the frames that came before the opening handshake was done, and go on reading."""
        self.resume_reading()
        self.parser.receive(early)
        return self.decode()

    cdef object deny(self, int status, object headers, object body):
        self.check_thread()
        if self.upgrade is None:
            self._check_not_lost()
            raise RuntimeError(
                "the WebSocket was accepted or refused before: a denial response comes instead of "
                "accept()"
            )
        if isinstance(body, str):
            body = body.encode("utf-8")
        response = http_head.http_response(
            status, [*self.extra_headers, *normalize_headers(headers)], bytes(body)
        )
        self.closed_here = True
        self._refuse(response)
        return READY

    cdef int _check_not_lost(self) except -1:
        """Whether the peer, or this server, ended the opening handshake before its answer."""
        if self.parser is None and not self.closed_here:
            raise self.tell()
        return 0

    def refuse(self, status, headers=None, body=b""):
        self.deny(status, headers, body)

    cdef object close(self, object code, object reason):
        self.check_thread()
        encode_close(code, reason)
        if self.upgrade is not None:
            self.closed_here = True
            self._refuse_with_text(403, HTTPStatus.FORBIDDEN.phrase)
            return READY
        return self.close_open(NO_STATUS if code is None else code, reason or "")

    def shutdown(self, int code, str reason=""):
        if self.transport is None or self.leaving:
            return
        if self.state == CONNECTING:
            self._refuse_with_text(503, "the server is stopping")
            self.task.cancel()
        elif self.state == CONNECTED:
            self.go_away(code, reason)

    cdef int _refuse(self, bytes response) except -1:
        """Answer the opening handshake with ``response`` and close."""
        self.upgrade = None
        self.extra_headers = None
        self.early = None
        self.state = CLOSING
        self.end_of_input()
        if self.transport is not None:
            self.write(response)
            self._answered(response)
            self.leave()
        return 0

    cdef int _answered(self, bytes response) except -1:
        on_answered = self.on_answered
        self.on_answered = None
        if on_answered is not None:
            on_answered(self, int(response[9:12]))  # behind "HTTP/1.1 "
        return 0

    cdef int _refuse_with_text(self, int status, str text) except -1:
        headers = [*self.extra_headers, ("Content-Type", "text/plain; charset=utf-8")]
        return self._refuse(http_head.http_response(status, headers, text.encode() + b"\n"))

    cdef int _refuse_with_exception(self, object error) except -1:
        """The handler's HTTPException, as FastAPI sends it."""
        try:
            response = http_head.http_response(
                error.status_code,
                [
                    *self.extra_headers,
                    ("Content-Type", "application/json"),
                    *normalize_headers(error.headers),
                ],
                orjson.dumps({"detail": error.detail}),
            )
        except (TypeError, ValueError):
            log.exception("the HTTPException in the handler of %s cannot be sent", self.id)
            return self._refuse_with_text(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)
        return self._refuse(response)

    # -- called by the transport -------------------------------------------------------------

    def data_received(self, data):
        try:
            if self.leaving or self.end_code != 0:
                return
            if self.state == CONNECTING:
                self.early = self.early + data
                if len(self.early) > MAX_EARLY and not self.reading_paused:
                    self.reading_paused = True
                    self.transport.pause_reading()
                return
            self.parser.receive(data)
            if self.stalled:
                # Paused at the second read only: a burst that the handler keeps up with costs
                # no system call. What was read waits undecoded.
                if not self.reading_paused:
                    self.reading_paused = True
                    self.transport.pause_reading()
                return
            self.decode()
            if self.parser.lacks() >= LONG and not self.leaving:
                note_long_message()
                if self.is_plain():
                    self.transport.set_protocol(Intake(self))
        except Exception as error:
            self._crash(error)

    def buffer_for_reading(self, size_hint):
        cdef uint8_t *space
        cdef Py_ssize_t size = 0
        if self.end_code != 0 or self.parser.lacks() == 0:
            # The connection has ended under the transport's hands.
            return bytearray(LONG)
        space = self.parser.space(&size)
        # It is used, and forgotten, before the parser is called again: see Intake.
        return PyMemoryView_FromMemory(<char *>space, size, PyBUF_WRITE)

    def buffer_read(self, size):
        try:
            if self.leaving or self.end_code != 0 or self.parser.lacks() == 0:
                return
            self.parser.filled(size)
            self.decode()
            if self.parser.lacks() == 0 and self.transport is not None:
                self.transport.set_protocol(self)
        except Exception as error:
            self._crash(error)

    def eof_received(self):
        """The peer's side of TCP has ended: what it sent is still delivered and answered."""
        try:
            self.peer_done = True
            if self.state == CONNECTING or self.leaving or self.sent_code != 0:
                return False
            if self.stalled:
                # What it sent still waits for the handler; one that does not want it is told now.
                self.end_at_once()
            else:
                self.end_of_input()
                self.input_ended()
            # A TLS transport cannot be half-open.
            return not self.leaving and self.transport.can_write_eof()
        except Exception as error:
            self._crash(error)

    def pause_writing(self):
        try:
            self.write_paused = True
            self.expect_progress()
        except Exception as error:
            self._crash(error)

    def resume_writing(self):
        try:
            self.write_paused = False
            self.loose = 0
            if self.owed_pong is not None:
                payload = self.owed_pong
                self.owed_pong = None
                self.send_control(OP_PONG, payload)
            if self.drainers:
                wake_all(self.drainers)
        except Exception as error:
            self._crash(error)

    def connection_lost(self, exc):
        try:
            if self.secure and self.transport is not None:
                # Before Python 3.11 asyncio's TLS transports warn that they were never closed.
                self.transport.close()
            self.known_client = self.client
            self.transport = None
            self.state = DISCONNECTED
            self.peer_done = True
            self.timer.stop()
            self.timer.owner = None
            self.upgrade = None
            self.early = None
            self.drop_gathered()
            if not self.stalled:
                self.end_of_input()
            self.wake()
            self.end_at_once()
            self.end_tasks()
            for group in (self.drainers, self.closers):
                if group:
                    wake_all(group)
            self.drop_pings()
            on_lost = self.on_lost
            self.on_lost = None
            if on_lost is not None:
                on_lost(self)
        except Exception as error:
            self._crash(error)

    def on_timer(self):
        try:
            if self.transport is None:
                return
            if self.state == CONNECTING:
                log.error(
                    "%s was not accepted within ws-accept-timeout: refused with 503", self.id
                )
                self._refuse_with_text(503, "the application did not answer in time")
                if self.task is not None:
                    self.task.cancel()
            elif self.state == CLOSING:
                self.abort_unless_draining()
            elif self.end_code != 0:
                self.answer_end()
            else:
                self.look()
        except Exception as error:
            self._crash(error)

    # -- the handler -------------------------------------------------------------------------

    def __call__(self, task):
        # The handler's task is done.
        self.task = None
        try:
            if task.cancelled():
                self._finish_handler(None, True)
            else:
                self._finish_handler(task.exception(), False)
        except Exception as error:
            self._crash(error)

    cdef int _finish_handler(self, object error, bint cancelled) except -1:
        cdef object ending = ending_of(error)
        cdef bint before_accept = self.upgrade is not None
        self.told = True
        self.end_tasks()
        if cancelled:
            ending = ending._replace(code=self.away_code or INTERNAL_ERROR, status=503)
        elif isinstance(error, WebSocketDisconnect):
            if log.isEnabledFor(logging.DEBUG):
                log.debug("the handler of %s ended with its connection: %s", self.id, error)
        elif ending.is_error and not (before_accept and isinstance(error, HTTPException)):
            log.error("the handler of %s failed", self.id, exc_info=error)
        elif error is None and before_accept:
            log.error("the handler of %s returned without accept() or close()", self.id)
        if before_accept:
            if isinstance(error, HTTPException):
                return self._refuse_with_exception(error)
            return self._refuse_with_text(ending.status, HTTPStatus(ending.status).phrase)
        self.drop_queue()
        if self.state != CONNECTED:
            return 0
        if self.end_code != 0:
            return self.answer_end()
        try:
            encode_close(ending.code, ending.reason)
        except ValueError:
            log.exception("the handler of %s ended with a close code or reason not to send", self.id)
            ending = ending._replace(code=INTERNAL_ERROR, reason="")
        self.close_with(ending.code, ending.reason)
        return 0

    cdef int _crash(self, object error) except -1:
        """The one way out of an exception that nobody expected, in any callback."""
        log.error("unexpected error on %s; it is closed with 1011", self.id, exc_info=error)
        if self.transport is None:
            return 0
        if self.upgrade is not None:
            return self._refuse_with_text(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)
        if self.state == CONNECTED:
            self.fail_with(INTERNAL_ERROR, "")
        self.end_of_input()
        self.wake()
        return self.abort_soon()
