# From messages to the transport: frames gathered to one write a step, and sends that wait.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._awaitables cimport Awaitable
from fastws._standing cimport Standing
from fastws._timers cimport TimerWheel


cdef class Writer(Standing):
    cdef object limits  # limits.Limits
    cdef object transport  # None once TCP is lost
    cdef TimerWheel timers  # the loop's
    cdef Py_ssize_t written  # bytes given to the transport
    cdef Py_ssize_t check_at  # of them, when to ask whether it still takes any
    cdef double last_message  # the wheel's clock, of the last one received or sent
    cdef bint write_paused  # the transport's buffer is above its mark
    cdef bint decoding  # messages are being read: their answers go out together
    cdef bint flush_due  # on_step_end() will be called
    cdef PyObject *gathered  # owned bytes of GATHER: frames of this step, or NULL
    cdef Py_ssize_t gathered_size
    cdef list drainers  # futures of sends that wait for the write buffer; None before the first
    cdef list closers  # futures of close() calls that wait for the closing handshake; likewise
    cdef bytes owed_pong  # the one to send when the writer has drained
    cdef unsigned loose  # sends above the write buffer's mark that no task waits for

    cdef bint may_send(self) except -1
    cdef object send_text(self, object data)
    cdef object send_binary(self, object data)
    cdef object send_json_bytes(self, bytes data, bint binary)
    cdef object sent(self)
    cdef int flush(self) except -1
    cdef int write(self, bytes data) except -1
    # Overridable.
    cdef int fail_and_abort(self, int code, str reason) except -1


# A send above the write buffer's mark, or a close() before the closing handshake is done.
@cython.final
cdef class Pause(Awaitable):
    cdef Writer connection
    cdef bint closing
    cdef bint awaited
    cdef object future  # in the connection's drainers or closers while it waits


cdef Pause pause(Writer connection, bint closing)
