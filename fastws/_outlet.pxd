# From frames to the kernel: gathered to one write, past the transport where it holds nothing back.

cimport cython
from libc.stdint cimport uint8_t

from fastws._codec cimport flag
from fastws._standing cimport Standing

cdef enum:
    # In the place of a descriptor.
    NOT_ASKED = -2
    NONE_TO_USE = -1


cdef class Outlet(Standing):
    cdef object transport  # None once TCP is lost
    cdef Py_ssize_t written  # bytes given to the kernel or the transport
    cdef Py_ssize_t check_at  # of them, when to ask whether the transport still takes any
    cdef int descriptor  # for writing past the transport, or why not
    cdef flag held_back  # the transport was given bytes, and may still have some
    cdef flag write_paused  # the transport's buffer is above its mark
    cdef flag decoding  # messages are being read: their answers go out together
    cdef flag flush_due  # flush() will be called at the end of this step
    cdef unsigned answers  # frames sent since a message was taken, or since the last step's end
    cdef flag handing_over  # the transport is being given bytes
    cdef list late  # what was sent meanwhile, for it to be given next
    cdef uint8_t *gathered  # frames of this step in a buffer of the loop's, or NULL
    cdef Py_ssize_t gathered_size

    # Whether a frame goes to the kernel as it is, seen without a question to the transport.
    @cython.final
    cdef inline bint _sends_at_once(self) noexcept:
        return (
            self.descriptor >= 0
            and not self.held_back
            and self.gathered_size == 0
            and self.count == 0
            and not self.decoding
            and not self.timers.step.crowded
            and self.timers.step.running
        )

    cdef int emit_frame(self, bytes ready) except -1
    cdef int flush(self) except -1
    cdef int write(self, bytes data) except -1
    cdef void drop_gathered(self) noexcept
    cdef int _emit_large(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1
    cdef int _write_piece(self, const uint8_t *p, Py_ssize_t n, bytes whole) except -1
    cdef int _hand_over_rest(
        self, const uint8_t *p, Py_ssize_t n, Py_ssize_t sent, bytes whole
    ) except -1
    cdef bint _gathers(self) except -1
    cdef int _settle(self) except -1
    cdef Py_ssize_t _send(
        self, const uint8_t *head, Py_ssize_t head_size, const uint8_t *body, Py_ssize_t body_size
    ) except -1
    cdef bint end_output(self) except -1
    cdef bint _goes_past_transport(self) except -1
    cdef bint is_plain(self) except -1
    cdef bint _is_held_back(self) except -1
    cdef int _hand_over(self, bytes data, Py_ssize_t start=*, bytes more=*) except -1
    cdef int _write_late(self) except -1
    cdef Py_ssize_t in_transport(self) except -1
    cdef int _check(self) except -1
