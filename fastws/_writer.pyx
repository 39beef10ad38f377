"""From messages to the transport: frames gathered to one write a step, and sends that wait."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR
from libc.stdint cimport uint8_t, uint32_t

from fastws._awaitables cimport READY, Awaitable, give, install, wake_all, yield_future
from fastws._codec cimport OP_BINARY, OP_PONG, OP_TEXT, frame, header_size, write_frame
from fastws._protocol cimport CONNECTED, new_masking_key

cdef extern from "Python.h":
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *p, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1

cdef enum:
    GATHER = 4096  # bytes: frames of one step are written together up to here
    CHECK = 65536  # bytes
    TRY_AGAIN_LATER = 1013


cdef class Writer(Standing):
    def __dealloc__(self):
        Py_CLEAR(self.gathered)

    @property
    def unsent_bytes(self):
        if self.transport is None:
            return 0
        gathered = 0 if self.gathered == NULL else self.gathered_size
        return self.transport.get_write_buffer_size() + gathered

    # -- messages ----------------------------------------------------------------------------

    cdef bint may_send(self) except -1:
        """Whether to send, or to drop without a word; raises what tells that it is too late."""
        self.check_thread()
        if self.state == CONNECTED:
            return True
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

    # -- frames ------------------------------------------------------------------------------

    cdef int emit(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n
    ) except -1:
        """Write a frame: at once, or together with others while more messages wait to be
        answered in this step."""
        cdef Py_ssize_t size
        cdef uint32_t key = 0
        if self.transport is None or self.leaving:
            return 0
        if self.is_client:
            key = new_masking_key()
        size = header_size(n, self.is_client) + n
        if self.gathered != NULL and self.gathered_size + size > GATHER:
            self.flush()
        if self.gathered == NULL:
            if size > GATHER // 2 or not (self.count or self.decoding):
                return self.write(frame(opcode, fin, rsv1, p, n, self.is_client, key))
            self.gathered = PyBytes_New(NULL, GATHER)
            self.gathered_size = 0
            if not self.flush_due:
                self.flush_due = True
                self.timers.step.at_end(self)
        write_frame(
            <uint8_t *>PyBytes_AS_STRING(<object>self.gathered) + self.gathered_size,
            opcode,
            fin,
            rsv1,
            p,
            n,
            self.is_client,
            key,
        )
        self.gathered_size += size
        return 0

    cdef int flush(self) except -1:
        if self.gathered == NULL:
            return 0
        _PyBytes_Resize(&self.gathered, self.gathered_size)
        data = <bytes>self.gathered
        Py_CLEAR(self.gathered)
        return self.write(data)

    def on_step_end(self):
        self.flush_due = False
        self.flush()

    cdef int write(self, bytes data) except -1:
        self.written += PyBytes_GET_SIZE(data)
        try:
            self.transport.write(data)
        except (OSError, RuntimeError):
            # uvloop refuses writes between a transport's failure and connection_lost().
            if not self.transport.is_closing():
                raise
        if self.written >= self.check_at:
            self.check_at = self.written + CHECK
            if self.transport.is_closing():
                # It throws everything away, and so never fills up: a handler that only sends would
                # keep the loop from calling connection_lost().
                self.write_paused = True
        return 0

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
