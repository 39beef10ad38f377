"""One WebSocket on an asyncio or uvloop transport."""

import logging
import os
import random
from contextvars import ContextVar
from http import HTTPStatus
from time import perf_counter

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from fastws._awaitables cimport READY, Awaitable, give, install, wait_for, wake_all, yield_future
from fastws._codec cimport (
    FAILED,
    NEED_DATA,
    OP_BINARY,
    OP_CLOSE,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    frame,
    header_size,
    write_header,
)
from fastws._protocol cimport (
    CLOSING,
    CONNECTED,
    CONNECTING,
    DISCONNECTED,
    Session,
)
from fastws._timers cimport TimerWheel

import orjson

from fastws import deflate, handshake, http_head
from fastws._awaitables import ReceiveTimeout
from fastws.codes import WebSocketState, encode_close
from fastws.exceptions import (
    HTTPException,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketTypeError,
    ending_of,
)
from fastws.http_fields import normalize_headers

cdef extern from "Python.h":
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *p, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)
    Py_ssize_t Py_REFCNT(PyObject *thing)

cdef extern from *:
    """
    /* The thread state tells threads apart as the thread's number does, without a call. */
    #if PY_VERSION_HEX >= 0x030D0000
    #define fastws_thread() ((void *)PyThreadState_GetUnchecked())
    #else
    #define fastws_thread() ((void *)_PyThreadState_UncheckedGet())
    #endif
    """
    void *fastws_thread() noexcept

cdef enum:
    GATHER = 4096  # bytes: frames of one step are written together up to here
    MAX_EARLY = 65536  # bytes kept of a peer that sends before its handshake is answered
    ABNORMAL = 1006
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013

cdef double ANSWER_TIME = 1.0  # seconds for answers to what came before the peer's CLOSE or fault
cdef double QUIET = 5.0  # seconds that a dead peer's own handler has to find out
# The connection whose handler, or a task started by it, is running.
cdef object current_connection = ContextVar("fastws.connection")
cdef object log = logging.getLogger("fastws.error")
cdef tuple STATES = tuple(WebSocketState)
cdef unsigned long long _serial = 0


cdef inline Py_ssize_t _size_of(object item):
    if type(item) is bytes:
        return PyBytes_GET_SIZE(item)
    return PyUnicode_GET_LENGTH(item) * PyUnicode_KIND(item)


cdef class Connection(Session):
    def __init__(
        self,
        transport,
        upgrade,
        bytes head,
        *,
        loop,
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
        on_lost=None,
    ):
        global _serial
        _serial += 1
        self.serial = _serial
        self.thread = fastws_thread()
        self.transport = transport
        self.upgrade = upgrade
        self.head = head
        self.loop = loop
        self.timers = timers
        self.timer = timers.timer(self)
        self.limits = limits
        self.deflate_options = deflate
        self.client = client
        self.server = server
        self.secure = secure
        self.root_path = root_path
        self.lifespan_state = lifespan_state
        self.extra_headers = extra_headers
        self.strict_send = strict_send
        self.on_lost = on_lost
        self.max_queue = limits.max_queue
        self.max_queue_bytes = limits.max_queue_bytes

    def __dealloc__(self):
        self._drop_queue()
        PyMem_Free(self.ring)
        Py_CLEAR(self.gathered)

    @property
    def id(self):
        return f"{os.getpid():x}-{self.serial:x}"

    @property
    def subprotocols(self):
        if self.upgrade is not None:
            return self.upgrade.subprotocols
        return handshake.check_upgrade(http_head.parse_request(self.head)).subprotocols

    @property
    def client_state(self):
        if self.state == CONNECTING:
            return STATES[CONNECTING]
        if self.closed_here:
            return STATES[DISCONNECTED if self.end_code or self.leaving else CLOSING]
        # Messages that wait are still to be received, though the peer may be gone.
        if self.told or (self.count == 0 and self._is_over()):
            return STATES[DISCONNECTED]
        return STATES[CONNECTED]

    @property
    def application_state(self):
        if self.state == CLOSING and (self.end_code or self.leaving):
            return STATES[DISCONNECTED]
        return STATES[self.state]

    cdef int check_thread(self) except -1:
        if fastws_thread() != self.thread:
            raise RuntimeError(
                "a WebSocket belongs to the thread of its event loop: from another thread use "
                "asyncio.run_coroutine_threadsafe() or loop.call_soon_threadsafe()"
            )
        return 0

    cdef int check_accepted(self) except -1:
        if self.state == CONNECTING:
            raise RuntimeError('the WebSocket is not accepted yet: "await ws.accept()" first')
        return 0

    # -- the opening handshake ---------------------------------------------------------------

    def start(self, ws, coroutine, bytes early=b"", *, bint cancel_on_disconnect=False):
        self.transport.set_protocol(self)
        self.transport.set_write_buffer_limits(
            high=self.limits.write_limit, low=self.limits.write_limit // 4
        )
        self.early = early
        self.cancel_on_disconnect = cancel_on_disconnect
        if self.limits.accept_timeout is not None:
            self.timer.start(self.limits.accept_timeout)
        # The handler's context, and that of every task it starts, names this connection.
        token = current_connection.set(self)
        try:
            self.task = self.loop.create_task(coroutine)
        finally:
            current_connection.reset(token)
        self.task.add_done_callback(self._handler_done)

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
            headers=[*self.extra_headers, *normalize_headers(headers)],
        )
        self._write(response)
        self.upgrade = None
        self.extra_headers = None
        self.subprotocol = subprotocol
        if agreed is None:
            self.open(self.limits, None, None, 0)
        else:
            self.open(
                self.limits,
                deflate.inflater_for(agreed[1], client=False),
                deflate.deflater_for(agreed[1], options, client=False),
                options.threshold,
            )
        self.last_heard = self.timers.now
        if self.limits.ping_interval is None:
            self.timer.stop()
        else:
            # Spread by 10 %, so that connections that came together are not pinged together.
            self.timer.start(self.limits.ping_interval * (0.9 + 0.2 * random.random()))
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
        early = self.early
        self.early = None
        self.parser.receive(early)
        self._decode()
        return READY

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
            raise self._tell()
        return 0

    def refuse(self, status, headers=None, body=b""):
        self.deny(status, headers, body)

    cdef int _refuse(self, bytes response) except -1:
        """Answer the opening handshake with ``response`` and close."""
        self.upgrade = None
        self.extra_headers = None
        self.early = None
        self.state = CLOSING
        self.end_of_input()
        if self.transport is not None:
            self._write(response)
            self._leave()
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
            self._decode()
        except Exception as error:
            self._crash(error)

    def eof_received(self):
        """The peer's side of TCP has ended: what it sent is still delivered and answered."""
        try:
            self.peer_done = True
            if self.state == CONNECTING or self.leaving or self.sent_code != 0:
                return False
            if not self.stalled:
                self.end_of_input()
                self._input_ended()
            # A TLS transport cannot be half-open.
            return not self.leaving and self.transport.can_write_eof()
        except Exception as error:
            self._crash(error)

    def pause_writing(self):
        self.write_paused = True

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
            self.transport = None
            self.state = DISCONNECTED
            self.peer_done = True
            self.timer.stop()
            self.timer.owner = None
            self.upgrade = None
            self.early = None
            Py_CLEAR(self.gathered)
            if not self.stalled:
                self.end_of_input()
            self._wake()
            self._end_at_once()
            self._end_tasks()
            for group in (self.drainers, self.closers):
                if group:
                    wake_all(group)
            if self.pings:
                self._drop_pings()
            on_lost = self.on_lost
            self.on_lost = None
            if on_lost is not None:
                on_lost(self)
        except Exception as error:
            self._crash(error)

    # -- receiving ---------------------------------------------------------------------------

    cdef int _decode(self) except -1:
        """Turn input into messages until it is used up or the queue is full."""
        cdef int event = NEED_DATA
        cdef bint heard = False
        cdef bint stale = False
        self.decoding = True
        try:
            while True:
                if self._is_full() and self.sent_code == 0:
                    self.stalled = True
                    break
                event = self.pull()
                if event == OP_TEXT or event == OP_BINARY:
                    heard = True
                    self._push(self.parser.pop_payload())
                elif event == OP_PONG:
                    if self._pong(self.parser.pop_payload()):
                        heard = True
                    else:
                        stale = True
                elif event == OP_PING:
                    heard = True
                    self.parser.pop_payload()
                else:
                    break
        finally:
            self.decoding = False
        # Any byte shows that the peer lives, but for a PONG to nothing we asked.
        if heard or not stale or not self.parser.at_boundary():
            self.last_heard = self.timers.now
        if event == NEED_DATA and self.peer_done:
            self.end_of_input()
        if event == OP_CLOSE or event == FAILED or (self.peer_done and self.end_code != 0):
            self._input_ended()
        elif self.count:
            self._wake()
        elif self.gathered != NULL:
            self.flush()
        return 0

    cdef bint _is_full(self) noexcept:
        return self.count >= self.max_queue or self.queued_bytes >= self.max_queue_bytes

    cdef int _push(self, object item) except -1:
        cdef unsigned size
        cdef unsigned i
        cdef PyObject **ring
        if self.count == self.capacity:
            size = 2 * self.capacity if self.capacity else 4
            ring = <PyObject **>PyMem_Realloc(self.ring, size * sizeof(PyObject *))
            if ring == NULL:
                raise MemoryError()
            # The part that had wrapped around goes behind the rest.
            for i in range(self.first):
                ring[self.capacity + i] = ring[i]
            self.ring = ring
            self.capacity = size
        Py_INCREF(item)
        self.ring[(self.first + self.count) & (self.capacity - 1)] = <PyObject *>item
        self.count += 1
        self.queued_bytes += _size_of(item)
        return 0

    cdef object _pop(self):
        """The oldest message; there is one."""
        cdef PyObject *owned = self.ring[self.first]
        self.first = (self.first + 1) & (self.capacity - 1)
        self.count -= 1
        item = <object>owned
        Py_DECREF(item)
        self.queued_bytes -= _size_of(item)
        if self.stalled:
            self._refill()
        return item

    cdef int _refill(self) except -1:
        """Go on decoding and reading once the queue is down to a quarter."""
        if 4 * self.count > self.max_queue or 4 * self.queued_bytes > self.max_queue_bytes:
            return 0
        self.stalled = False
        if self.parser.has_input() or self.peer_done:
            # The message being taken still wants its answer, should the input end here.
            self.refilling = True
            try:
                self._decode()
            finally:
                self.refilling = False
        if self.reading_paused and not self.stalled and self.transport is not None:
            self.reading_paused = False
            self.transport.resume_reading()
        return 0

    cdef void _drop_queue(self) noexcept:
        while self.count:
            self.count -= 1
            Py_CLEAR(self.ring[self.first])
            self.first = (self.first + 1) & (self.capacity - 1)
        self.queued_bytes = 0

    cdef int _wake(self) except -1:
        if self.receiver is not None:
            self.waiter.wake()
        return 0

    cdef bint _is_over(self) noexcept:
        """Whether no message will come beyond those that wait."""
        return self.end_code != 0 or self.away_code != 0 or self.closed_here

    cdef int _input_ended(self) except -1:
        """The peer's CLOSE, its violation or its EOF has been read."""
        self._wake()
        self._end_at_once()
        if self.pings:
            self._drop_pings()
        if self.sent_code != 0:
            self._leave()
        elif (self.count == 0 and not self.refilling) and (
            # After a mere EOF the peer may still read an answer that the handler is working on.
            self.end_code != ABNORMAL or self.receiver is not None or self.task is None
        ):
            self._answer_end()
        elif self.transport is not None:
            # A peer that waits for our CLOSE waits while the handler answers, but not for long;
            # one that has half-closed reads on.
            patience = self.limits.close_timeout
            self.timer.start(
                patience if self.end_code == ABNORMAL else min(patience, ANSWER_TIME)
            )
        return 0

    cdef int _end_at_once(self) except -1:
        """The peer is gone: cancel a handler that asked for it, unless it is about to be told."""
        self._note_end()
        if self.cancel_on_disconnect and self.receiver is None and self.task is not None:
            self.cancel_on_disconnect = False
            self.task.cancel()
        return 0

    cdef int _note_end(self) except -1:
        if self.ended_at == 0:
            self.ended_at = self.loop.time()
        return 0

    cdef int _end_tasks(self) except -1:
        on_end = self.on_end
        self.on_end = None
        if on_end is not None:
            on_end()
        return 0

    def call_at_end(self, callback):
        self.on_end = callback
        if self.transport is None:
            self._end_tasks()

    cdef int _answer_end(self) except -1:
        """The messages before the end have had their answers: now the CLOSE that ends it."""
        self.conclude()
        return self._leave()

    cdef object _end(self):
        """The exception that says how the connection ended."""
        if self.closed_here:
            return WebSocketClosed(self.sent_code or ABNORMAL, self.sent_reason)
        if self.end_code == 0 and self.away_code != 0:
            return WebSocketDisconnect(self.away_code, self.away_reason)
        if self.end_code == 0 and self.sent_code != 0:
            # The handler is done, and its CLOSE not answered yet.
            return WebSocketDisconnect(self.sent_code, self.sent_reason)
        return WebSocketDisconnect(self.end_code or ABNORMAL, self.end_reason)

    cdef object _tell(self):
        """The same, to be raised: who gets it knows now."""
        # What another handler's broadcast runs into tells this connection's own nothing.
        if current_connection.get(None) is self:
            self.told = True
        return self._end()

    cdef object receive_as(self, int want, object timeout):
        cdef Receive receive
        self.check_thread()
        self.check_accepted()
        if self.spare is not None and Py_REFCNT(<PyObject *>self.spare) == 1:
            receive = self.spare
        else:
            receive = self.spare = Receive.__new__(Receive)
        receive.connection = self
        receive.want = want
        receive.timeout = timeout
        receive.decode = None
        receive.timed_out = False
        return receive

    # -- sending -----------------------------------------------------------------------------

    cdef bint may_send(self) except -1:
        """Whether to send, or to drop without a word; raises what tells that it is too late."""
        self.check_thread()
        if self.state == CONNECTED:
            return True
        self.check_accepted()
        if self._is_quiet():
            self.dropped += 1
            return False
        raise self._tell()

    cdef bint _is_quiet(self) except -1:
        """Whether a send to this dead peer comes from elsewhere and too early to raise there.

        A broadcast from another connection's handler would end that handler, the wrong one, as
        long as this connection's own has not been told. It has a while to find out.
        """
        return (
            not self.told
            and not self.closed_here
            and not self.strict_send
            and current_connection.get(None) is not self
            and self.loop.time() - self.ended_at < QUIET
        )

    cdef object send_text(self, object data):
        if not self.may_send():
            return READY
        self.send_text_data(data)
        return self.sent()

    cdef object send_binary(self, object data):
        if not self.may_send():
            return READY
        self.send_binary_data(data)
        return self.sent()

    cdef object send_json_bytes(self, bytes data, bint binary):
        if not self.may_send():
            return READY
        self.send_message(
            OP_BINARY if binary else OP_TEXT,
            <const uint8_t *>PyBytes_AS_STRING(data),
            PyBytes_GET_SIZE(data),
        )
        return self.sent()

    cdef object sent(self):
        """What a send returns: nothing to wait for, unless the write buffer is above its mark."""
        cdef Pause pause
        if not self.write_paused:
            return READY
        if self.loose and self.transport.get_write_buffer_size() > self.limits.max_backpressure:
            # Sent again without waiting, to a peer that does not read. Tasks that do wait may
            # have as much as they like in the buffer: one message each.
            self.fail_with(
                TRY_AGAIN_LATER, "the peer reads too slowly: ws-max-backpressure is reached"
            )
            self._wake()
            self._abort_soon()
            return READY
        self.loose += 1
        pause = Pause.__new__(Pause)
        pause.connection = self
        return pause

    cdef int emit(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n
    ) except -1:
        """Write a frame: at once, or together with others while more messages wait to be
        answered in this step."""
        cdef Py_ssize_t size
        cdef uint8_t *target
        if self.transport is None or self.leaving:
            return 0
        size = header_size(n, False) + n
        if self.gathered != NULL and self.gathered_size + size > GATHER:
            self.flush()
        if self.gathered == NULL:
            if size > GATHER // 2 or not (self.count or self.decoding):
                return self._write(frame(opcode, fin, rsv1, p, n, False, 0))
            self.gathered = PyBytes_New(NULL, GATHER)
            self.gathered_size = 0
            if not self.flush_due:
                self.flush_due = True
                self.timers.step.at_end(self)
        target = <uint8_t *>PyBytes_AS_STRING(<object>self.gathered) + self.gathered_size
        target += write_header(target, opcode, fin, rsv1, n, False, 0)
        memcpy(target, p, n)
        self.gathered_size += size
        return 0

    cdef int flush(self) except -1:
        if self.gathered == NULL:
            return 0
        _PyBytes_Resize(&self.gathered, self.gathered_size)
        data = <bytes>self.gathered
        Py_CLEAR(self.gathered)
        return self._write(data)

    cdef int _write(self, bytes data) except -1:
        try:
            self.transport.write(data)
        except (OSError, RuntimeError):
            # uvloop refuses writes between a transport's failure and connection_lost().
            if not self.transport.is_closing():
                raise
        return 0

    cdef int answer_ping(self, bytes payload) except -1:
        # A peer that does not read is owed the latest PONG only (section 5.5.3).
        if self.write_paused:
            self.owed_pong = payload
            return 0
        return self.send_control(OP_PONG, payload)

    # -- ends --------------------------------------------------------------------------------

    cdef object close(self, object code, object reason):
        cdef Pause pause
        self.check_thread()
        encode_close(code, reason)
        if self.upgrade is not None:
            self.closed_here = True
            self._refuse_with_text(403, HTTPStatus.FORBIDDEN.phrase)
            return READY
        if self.state == CONNECTED:
            self._drop_queue()
            if self.end_code != 0:
                self._answer_end()
            else:
                self.closed_here = True
                self._close_with(code, reason or "")
        if self.transport is None or self.leaving:
            return READY
        pause = Pause.__new__(Pause)
        pause.connection = self
        pause.closing = True
        return pause

    def _close_with(self, code, reason):
        """Send CLOSE and give the peer its time to answer."""
        self.send_close(code, reason)
        self.flush()
        self.stalled = False
        self._start_close_timer()
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
        if self.parser.has_input() or self.peer_done:
            self._decode()

    def shutdown(self, int code, str reason=""):
        if self.transport is None or self.leaving:
            return
        if self.state == CONNECTING:
            self._refuse_with_text(503, "the server is stopping")
            self.task.cancel()
        elif self.state == CONNECTED:
            if self.end_code != 0:
                self._answer_end()
                return
            self.away_code = code
            self.away_reason = reason
            self._note_end()
            self._close_with(code, reason)
            self._wake()

    def abort(self):
        if self.transport is not None:
            self.transport.abort()
        if self.task is not None:
            self.task.cancel()

    cdef int _leave(self) except -1:
        """Our last byte is written: end our side, and read until the peer has ended its own.

        Closing with unread input would send a RST, which may destroy the CLOSE on its way. The
        server ends TCP first (section 7.1.1).
        """
        if self.leaving or self.transport is None:
            return 0
        self.flush()
        self.leaving = True
        if self.state == CONNECTED:
            self.state = CLOSING
        if self.closers:
            wake_all(self.closers)
        if self.drainers:
            wake_all(self.drainers)
        if self.peer_done or not self.transport.can_write_eof():
            self.transport.close()
        else:
            try:
                self.transport.write_eof()
            except (OSError, RuntimeError):
                self.transport.abort()
                return 0
            if self.reading_paused:
                self.reading_paused = False
                self.transport.resume_reading()
        self._start_close_timer()
        return 0

    cdef int _abort_soon(self) except -1:
        # The CLOSE must reach the wire first: uvloop writes when this step of the loop ends.
        self._note_end()
        if self.transport is not None:
            self.flush()
            self.loop.call_soon(self.transport.abort)
        return 0

    def _handler_done(self, task):
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
        self._end_tasks()
        if cancelled:
            ending = ending._replace(code=self.away_code or INTERNAL_ERROR, status=503)
        elif isinstance(error, WebSocketDisconnect):
            log.debug("the handler of %s ended with its connection: %s", self.id, error)
        elif ending.is_error and not (before_accept and isinstance(error, HTTPException)):
            log.error("the handler of %s failed", self.id, exc_info=error)
        elif error is None and before_accept:
            log.error("the handler of %s returned without accept() or close()", self.id)
        if before_accept:
            if isinstance(error, HTTPException):
                return self._refuse_with_exception(error)
            return self._refuse_with_text(ending.status, HTTPStatus(ending.status).phrase)
        self._drop_queue()
        if self.state != CONNECTED:
            return 0
        if self.end_code != 0:
            return self._answer_end()
        try:
            encode_close(ending.code, ending.reason)
        except ValueError:
            log.exception("the handler of %s ended with a close code or reason not to send", self.id)
            ending = ending._replace(code=INTERNAL_ERROR, reason="")
        self._close_with(ending.code, ending.reason)
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
        self._wake()
        return self._abort_soon()

    # -- liveness ----------------------------------------------------------------------------

    def on_step_end(self):
        self.flush_due = False
        self.flush()

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
                self._abort_unless_draining()
            elif self.end_code != 0:
                self._answer_end()
            else:
                self._keep_alive()
        except Exception as error:
            self._crash(error)

    cdef int _abort_unless_draining(self) except -1:
        """The closing handshake's time is over, unless our CLOSE is still behind data that a slow
        peer goes on reading."""
        cdef Py_ssize_t unsent = self.transport.get_write_buffer_size()
        if unsent >= self.unsent:
            self.transport.abort()
            return 0
        self.unsent = unsent
        return self.timer.start(self.limits.close_timeout)

    cdef int _start_close_timer(self) except -1:
        self.unsent = self.transport.get_write_buffer_size() if self.write_paused else 0
        return self.timer.start(self.limits.close_timeout)

    cdef int _keep_alive(self) except -1:
        """PING a silent peer; fail the connection if that brings no sign of life."""
        cdef double interval = self.limits.ping_interval
        cdef double now = self.timers.now
        cdef double patience
        if self.ping_sent != 0:
            # The wheel's clock stands still between ticks: equal is after the PING.
            if self.last_heard >= self.ping_sent:
                self.ping_sent = 0
            else:
                patience = self.limits.ping_timeout
                # Nothing can be heard while a full queue keeps us from reading.
                if self.stalled:
                    return self.timer.start(patience)
                if now - self.ping_sent >= patience:
                    self.fail_with(INTERNAL_ERROR, "no answer to a ping within ws-ping-timeout")
                    self._wake()
                    return self._abort_soon()
                return self.timer.start(max(0.1, self.ping_sent + patience - now))
        if self.stalled:
            return self.timer.start(interval)
        if now - self.last_heard < 0.9 * interval:
            return self.timer.start(max(0.1, self.last_heard + interval - now))
        self.ping_payload = os.urandom(4)
        self.send_control(OP_PING, self.ping_payload)
        if self.limits.ping_timeout is None:
            return self.timer.start(interval)
        self.ping_sent = now
        return self.timer.start(self.limits.ping_timeout)

    cdef int _pong(self, bytes payload) except -1:
        """Whether ``payload`` answers a PING of ours."""
        if self.ping_sent != 0 and payload == self.ping_payload:
            self.ping_sent = 0
            return 1
        if not self.pings or payload not in self.pings:
            return 0
        now = perf_counter()
        # An answer to a later PING answers those before it too (section 5.5.3).
        for key in list(self.pings):
            future, sent = self.pings.pop(key)
            if not future.done():
                future.set_result(now - sent)
            if key == payload:
                break
        return 1

    cdef object ping(self, object data):
        self.check_thread()
        if self.state != CONNECTED:
            self.check_accepted()
            raise self._tell()
        if self.end_code != 0:
            # Messages still wait, but no PONG will come.
            raise self._end()
        payload = bytes(memoryview(data)) or os.urandom(4)
        if self.pings is None:
            self.pings = {}
        if payload in self.pings and not self.pings[payload][0].done():
            raise ValueError(f"a ping with the data {payload!r} is waiting for its pong")
        self.send_control(OP_PING, payload)
        future = self.loop.create_future()
        # Not the loop's clock: uvloop's stands still within a step and counts milliseconds.
        self.pings[payload] = (future, perf_counter())
        return wait_for(future)

    def _drop_pings(self):
        for future, _ in self.pings.values():
            if not future.done():
                future.set_exception(WebSocketDisconnect(self.end_code or ABNORMAL))
                future.exception()  # nobody may be waiting for it
        self.pings.clear()


cdef class Receive(Awaitable):
    """The next message, for one task."""

    cdef int step(self, PyObject **result) except -1:
        cdef Connection connection = self.connection
        if connection is None:
            raise RuntimeError("this receive was awaited before: call receive again")
        if self.waiting:
            if not (connection.count or connection._is_over() or self.timed_out):
                # Resumed by something else than the connection: wait on.
                return self._yield(result)
            self._detach()
        elif connection.receiver is not None:
            raise RuntimeError(
                "another task waits for a message of this WebSocket: one at a time may receive"
            )
        if connection.count == 0:
            return self._wait(result)
        self.connection = None
        give(self._convert(connection._pop()), result)
        return 1

    cdef int _wait(self, PyObject **result) except -1:
        """There is no message: wait for one, or tell how the connection ended."""
        cdef Connection connection = self.connection
        # The handler goes to sleep: what it sent goes out.
        connection.flush()
        if connection._is_over():
            self.connection = None
            if connection.end_code != 0 and connection.state == CONNECTED:
                connection._answer_end()
            connection.told = True
            if self.want == WANT_ITEM:
                raise StopAsyncIteration
            error = connection._end()
            if self.want == WANT_MESSAGE and not connection.disconnect_given:
                connection.disconnect_given = True
                give(
                    {
                        "type": "websocket.disconnect",
                        "code": error.code,
                        "reason": error.reason,
                    },
                    result,
                )
                return 1
            raise error
        if self.timed_out:
            self.connection = None
            raise ReceiveTimeout(f"no message arrived within {self.timeout} s")
        self.waiting = True
        connection.receiver = self
        if self.timeout is not None:
            self.alarm = connection.loop.call_later(self.timeout, self._on_timeout)
        return self._yield(result)

    cdef int _yield(self, PyObject **result) except -1:
        """Yield the connection's Waiter to the task, as Future.__await__ yields itself."""
        cdef Connection connection = self.connection
        if connection.waiter is None:
            connection.waiter = connection.timers.step.waiter()
        connection.waiter._asyncio_future_blocking = True
        return give(connection.waiter, result)

    cdef object _convert(self, object item):
        cdef bint is_text = type(item) is str
        if self.want == WANT_TEXT:
            if not is_text:
                raise WebSocketTypeError(
                    "receive_text() got a binary message: use receive_bytes() or receive()", item
                )
            return item
        if self.want == WANT_BYTES:
            if is_text:
                raise WebSocketTypeError(
                    "receive_bytes() got a text message: use receive_text() or receive()", item
                )
            return item
        if self.want == WANT_MESSAGE:
            return {"type": "websocket.receive", "text" if is_text else "bytes": item}
        if self.want == WANT_ITEM:
            return item if self.decode is None else self.decode(item)
        if is_text != (self.want == WANT_JSON_TEXT):
            raise WebSocketTypeError(
                f"receive_json() got a {'text' if is_text else 'binary'} message: "
                f"pass mode=\"{'text' if is_text else 'binary'}\" or use receive()",
                item,
            )
        return orjson.loads(item) if self.decode is None else self.decode(item)

    cdef int _detach(self) except -1:
        """No longer the one that waits."""
        self.waiting = False
        self.connection.receiver = None
        self.connection.waiter.forget()
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        return 0

    cdef int abandon(self) except -1:
        # Cancelled: a message that has woken this receive stays in the queue.
        if self.waiting:
            self._detach()
        self.connection = None
        return 0

    def _on_timeout(self):
        self.timed_out = True
        if self.waiting:
            self.connection._wake()


cdef class Pause(Awaitable):
    # Python code could make one that has no connection: `type(ws.send_text(…))()`.
    @cython.nonecheck(True)
    cdef int step(self, PyObject **result) except -1:
        cdef Connection connection = self.connection
        if not self.awaited:
            self.awaited = True
            if connection.loose and not self.closing:
                connection.loose -= 1
        if self.future is None or self.future.done():
            if self._is_due():
                give(None, result)
                return 1
            self.future = connection.loop.create_future()
            if self.closing:
                connection.closers = connection.closers or []
                connection.closers.append(self.future)
            else:
                connection.drainers = connection.drainers or []
                connection.drainers.append(self.future)
        return yield_future(self.future, result)

    def _is_due(self):
        cdef Connection connection = self.connection
        if self.closing:
            return connection.transport is None or connection.leaving
        if connection.transport is None or connection.leaving:
            if connection._is_quiet():
                return True
            raise connection._tell()
        return not connection.write_paused

    @cython.nonecheck(True)
    cdef int abandon(self) except -1:
        group = self.connection.closers if self.closing else self.connection.drainers
        if group and self.future in group:
            group.remove(self.future)
            if not self.closing:
                self.connection.loose += 1
        return 0


install(Receive)
install(Pause)
