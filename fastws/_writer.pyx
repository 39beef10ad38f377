"""From messages to frames, and sends that wait while a peer reads too slowly."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._awaitables cimport READY, Awaitable, give, install, wake_all, yield_future
from fastws._codec cimport OP_BINARY, OP_PONG, OP_TEXT, PreparedMessage
from fastws._protocol cimport CONNECTING

cdef enum:
    TRY_AGAIN_LATER = 1013
    STREAK = 64  # sends


cdef class Writer(Outlet):
    cdef bint may_send_late(self) except -1:
        self.check_accepted()
        if self.is_quiet():
            self.dropped += 1
            return False
        raise self.tell()

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
            data,
        )
        return self.sent()

    cdef int send_prepared(self, PreparedMessage message) except -1:
        """Send a message that many get. Who is not there, or not any more, does not get it."""
        cdef bytes payload = message.payload
        cdef bint compresses
        self.check_thread()
        if self.state != CONNECTED:
            if self.state != CONNECTING and self.is_quiet():
                self.dropped += 1
            return 0
        compresses = self.deflater is not None and PyBytes_GET_SIZE(payload) >= self.threshold
        if self.is_client or (compresses and self.deflater.context_takeover):
            # The frame is this connection's alone.
            self.send_message(
                message.opcode,
                <const uint8_t *>PyBytes_AS_STRING(payload),
                PyBytes_GET_SIZE(payload),
                payload,
            )
        else:
            self.messages_sent += 1
            self.bytes_sent += PyBytes_GET_SIZE(payload)
            self.emit_frame(
                message.compressed_frame(self.deflater) if compresses else message.plain_frame()
            )
        self.last_message = self.timers.now
        if self.write_paused:
            self.note_loose()
        return 0

    cdef object sent(self):
        """What a send returns: nothing to wait for, unless the write buffer is above its mark."""
        self.last_message = self.timers.now
        if self.write_paused and self.note_loose():
            return pause(self, False)
        if self.streak < STREAK:
            self.streak += 1
        elif self.timers.step.is_late():
            return Breath.__new__(Breath, self)
        return READY

    cdef bint note_loose(self) except -1:
        """Whether to wait for the write buffer; not if that has had enough, which ends it."""
        if self.loose and self.in_transport() > self.limits.max_backpressure:
            # Sent again without waiting, to a peer that does not read. Tasks that do wait may
            # have as much as they like in the buffer: one message each.
            self.fail_and_abort(
                TRY_AGAIN_LATER, "the peer reads too slowly: ws-max-backpressure is reached"
            )
            return False
        self.loose += 1
        return True

    cdef int fail_and_abort(self, int code, str reason) except -1:
        raise NotImplementedError("fail_and_abort() is overridden")

    cdef int answer_ping(self, bytes payload) except -1:
        # A peer that does not read is owed the latest PONG only (section 5.5.3).
        if self.write_paused:
            self.owed_pong = payload
            return 0
        return self.send_control(OP_PONG, payload)


cdef Pause pause(Writer connection, bint closing):
    cdef Pause made = Pause.__new__(Pause)
    made.connection = connection
    made.closing = closing
    return made


cdef class Pause(Awaitable):
    # Python code could make one that has no connection: `type(ws.send_text(…))()`.
    @cython.nonecheck(True)
    cdef int step(self, PyObject **result) except -1:
        cdef Writer connection = self.connection
        if not self.awaited:
            self.awaited = True
            if connection.loose and not self.closing:
                connection.loose -= 1
        if self.future is None or self.future.done():
            if self._is_due():
                give(None, result)
                return 1
            self.future = connection.timers.loop.create_future()
            if self.closing:
                connection.closers = connection.closers or []
                connection.closers.append(self.future)
            else:
                connection.drainers = connection.drainers or []
                connection.drainers.append(self.future)
        return yield_future(self.future, result)

    def _is_due(self):
        cdef Writer connection = self.connection
        if self.closing:
            # A client's close is done when the server has ended TCP (section 7.1.1).
            return connection.transport is None or (
                connection.leaving and not connection.is_client
            )
        if connection.transport is None or connection.leaving:
            # Sent while the peer was there: that its handler has been told since, and woke first,
            # is nothing that another's handler should end of.
            if connection.is_foreign():
                return True
            raise connection.tell()
        return not connection.write_paused

    @cython.nonecheck(True)
    cdef int abandon(self) except -1:
        group = self.connection.closers if self.closing else self.connection.drainers
        if group and self.future in group:
            group.remove(self.future)
            if not self.closing:
                self.connection.loose += 1
        return 0


install(Pause)


cdef class Breath(Awaitable):
    """After many sends, none of which had to wait, and some milliseconds: the others' turn."""

    def __cinit__(self, Writer connection not None):
        self.connection = connection

    cdef int step(self, PyObject **result) except -1:
        give(None, result)
        if not self.taken:
            self.taken = True
            return 0
        self.connection.streak = 0
        self.connection.timers.step.start_clock()
        return 1


install(Breath)
