"""From the transport's bytes to the application's receive calls."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR
from libc.math cimport floor
from libc.stdint cimport uint64_t

from fastws._awaitables cimport Awaitable, give, install
from fastws._codec cimport FAILED, NEED_DATA, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG, OP_TEXT
from fastws._protocol cimport CONNECTED, CONNECTING

import orjson

from fastws._awaitables import ReceiveTimeout
from fastws.exceptions import WebSocketTypeError

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *thing)


cdef class Receiver(Liveness):
    cdef object receive_as(self, int want, object timeout):
        cdef Receive receive
        self.check_thread()
        if self.state == CONNECTING:
            self.check_accepted()
        if self.spare is not None and Py_REFCNT(<PyObject *>self.spare) == 1:
            receive = self.spare
        else:
            receive = self.spare = Receive.__new__(Receive)
        receive.connection = self
        receive.want = want
        receive.timeout = timeout
        if receive.decode is not None:
            receive.decode = None
        receive.timed_out = False
        return receive

    cdef int decode(self) except -1:
        """Turn input into messages until it is used up or the queue is full."""
        cdef int event = NEED_DATA
        cdef bint heard = False
        cdef bint stale = False
        if self.message_rate:
            self.earn()
        self.decoding = True
        try:
            while True:
                if self.is_full() and self.sent_code == 0:
                    self.stalled = True
                    break
                event = self.pull()
                if event == OP_TEXT or event == OP_BINARY:
                    heard = True
                    self.last_message = self.timers.now
                    self.push(self.parser.pop_payload())
                elif event == OP_PONG:
                    if self.pong(self.parser.pop_payload()):
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
            self.input_ended()
        elif self.count:
            self.wake()
        elif self.gathered != NULL:
            self.flush()
        return 0

    cdef int limit_rate(self, unsigned rate) except -1:
        """Let the peer send that many messages a second, a second's worth at once; and what comes
        to be read together, since a full queue kept us from reading."""
        self.message_rate = rate
        self.parser.budget = rate
        self.earned_at = self.timers.loop.time()
        return 0

    cdef int earn(self) except -1:
        """Pay for the time that has passed in messages that the peer may send."""
        cdef double now = self.timers.loop.time()
        cdef double earned = floor((now - self.earned_at) * self.message_rate)
        if earned + self.parser.budget >= self.message_rate and not self.refilling:
            # What is more was saved up while the handler kept us from reading.
            self.parser.budget = max(self.parser.budget, <uint64_t>self.message_rate)
            self.earned_at = now
        else:
            # What is short of a message is not lost.
            self.parser.budget += <uint64_t>earned
            self.earned_at += earned / self.message_rate
        return 0

    cdef int refill(self) except -1:
        """Go on decoding and reading."""
        self.stalled = False
        if self.parser.has_input() or self.peer_done:
            # The message being taken still wants its answer, should the input end here.
            self.refilling = True
            try:
                self.decode()
            finally:
                self.refilling = False
        if not self.stalled:
            self.resume_reading()
        return 0

    cdef int resume_reading(self) except -1:
        if self.reading_paused and self.transport is not None:
            self.reading_paused = False
            self.transport.resume_reading()
        return 0

    cdef int wake(self) except -1:
        if self.receiver is not None:
            self.waiter.wake()
        return 0

    cdef int input_ended(self) except -1:
        raise NotImplementedError("input_ended() is overridden")

    cdef int answer_end(self) except -1:
        raise NotImplementedError("answer_end() is overridden")


cdef class Receive(Awaitable):
    """The next message, for one task."""

    cdef int step(self, PyObject **result) except -1:
        cdef Receiver connection = self.connection
        if connection is None:
            raise RuntimeError("this receive was awaited before: call receive again")
        if self.waiting:
            if not (connection.count or connection.is_over() or self.timed_out):
                if connection.waiter.is_awaited():
                    raise RuntimeError("another task awaits this receive: call receive once a task")
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
        result[0] = connection.take()
        connection.answers = 0
        connection.streak = 0
        if connection.stalled and connection.is_low():
            try:
                connection.refill()
            except BaseException:
                Py_CLEAR(result[0])
                raise
        if self.want != WANT_TEXT or type(<object>result[0]) is not str:
            self._convert(result)
        return 1

    cdef int _wait(self, PyObject **result) except -1:
        """There is no message: wait for one, or tell how the connection ended."""
        cdef Receiver connection = self.connection
        # The handler goes to sleep: what it sent goes out.
        if not connection.timers.step.crowded:
            connection.flush()
        if connection.is_over():
            self.connection = None
            if connection.end_code != 0 and connection.state == CONNECTED:
                connection.answer_end()
            connection.told = True
            if self.want == WANT_ITEM:
                raise StopAsyncIteration
            error = connection.end()
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
            self.alarm = connection.timers.alarms.call_later(self.timeout, self._on_timeout)
        return self._yield(result)

    cdef int _yield(self, PyObject **result) except -1:
        """Yield the connection's Waiter to the task, as Future.__await__ yields itself."""
        cdef Receiver connection = self.connection
        if connection.waiter is None:
            connection.waiter = connection.timers.step.waiter()
        connection.waiter._asyncio_future_blocking = True
        return give(connection.waiter, result)

    cdef int _convert(self, PyObject **result) except -1:
        """Make of the message what is wanted, in its place."""
        item = <object>result[0]
        Py_CLEAR(result[0])
        return give(self._converted(item), result)

    cdef object _converted(self, object item):
        cdef bint is_text = type(item) is str
        if self.want == WANT_TEXT:
            raise WebSocketTypeError(
                "receive_text() got a binary message: use receive_bytes() or receive()", item
            )
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
            self.connection.wake()


install(Receive)
