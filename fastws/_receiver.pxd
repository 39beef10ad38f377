# From the transport's bytes to the application's receive calls.

cimport cython
from cpython.object cimport PyObject

from fastws._codec cimport flag
from fastws._awaitables cimport Awaitable
from fastws._liveness cimport Liveness
from fastws._waking cimport Waiter

# What a receive wants of the next message.
cdef enum:
    WANT_TEXT = 0
    WANT_BYTES = 1
    WANT_JSON_TEXT = 2
    WANT_JSON_BINARY = 3
    WANT_MESSAGE = 4  # as an ASGI event
    WANT_ITEM = 5  # either kind, as it is; the end stops an iteration


cdef class Receiver(Liveness):
    cdef flag reading_paused  # the transport was told not to read
    cdef flag peer_done  # EOF came
    cdef flag refilling  # decoding while a message is being taken from the queue
    cdef flag disconnect_given  # receive() has returned websocket.disconnect
    cdef unsigned message_rate  # messages a second; 0 for any
    cdef double earned_at  # the loop's clock, up to which the parser's budget is paid
    cdef Receive receiver  # the one that waits, or None
    cdef Waiter waiter  # what its task waits on; None before the first wait
    cdef Receive spare  # used again by the next receive if nobody else holds it

    cdef object receive_as(self, int want, object timeout)
    cdef int decode(self) except -1
    cdef int limit_rate(self, unsigned rate) except -1
    cdef int earn(self) except -1
    cdef int refill(self) except -1
    cdef int wake(self) except -1
    cdef int resume_reading(self) except -1
    # Overridable.
    cdef int input_ended(self) except -1
    cdef int answer_end(self) except -1


@cython.final
cdef class Receive(Awaitable):
    cdef Receiver connection  # None once the receive is over
    cdef object timeout  # seconds or None
    cdef object decode  # makes an object of the message; None where it is the item or plain JSON
    cdef object alarm  # the loop's handle for the timeout
    cdef int want
    cdef flag waiting  # as the connection's receiver
    cdef flag timed_out

    cdef int _convert(self, PyObject **result) except -1
    cdef object _converted(self, object item)
    cdef int _wait(self, PyObject **result) except -1
    cdef int _yield(self, PyObject **result) except -1
    cdef int _detach(self) except -1
