"""From messages to frames, and sends that wait while a peer reads too slowly."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._awaitables cimport READY, Awaitable, give, install, wake_all, yield_future
from fastws._codec cimport OP_BINARY, OP_PONG, OP_TEXT

cdef enum:
    TRY_AGAIN_LATER = 1013


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

    cdef object sent(self):
        """What a send returns: nothing to wait for, unless the write buffer is above its mark."""
        self.last_message = self.timers.now
        if not self.write_paused:
            return READY
        if self.loose and self.transport.get_write_buffer_size() > self.limits.max_backpressure:
            # Sent again without waiting, to a peer that does not read. Tasks that do wait may
            # have as much as they like in the buffer: one message each.
            self.fail_and_abort(
                TRY_AGAIN_LATER, "the peer reads too slowly: ws-max-backpressure is reached"
            )
            return READY
        self.loose += 1
        return pause(self, False)

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
            self.future = connection.loop.create_future()
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
