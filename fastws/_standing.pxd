# How a connection stands: whether it may be used, how it has ended, and who has been told.

cimport cython

from fastws._codec cimport flag
from fastws._receive_queue cimport ReceiveQueue
from fastws._timers cimport TimerWheel

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

cdef object current_connection  # ContextVar: whose handler, or a task started by it, is running


cdef class Standing(ReceiveQueue):
    cdef TimerWheel timers  # the loop's
    cdef void *thread  # whose calls are allowed
    cdef unsigned long long serial
    cdef object __weakref__
    cdef int away_code  # with which this end went away, as in a server's shutdown; 0 before
    cdef flag closed_here  # the application's close() ended the connection
    cdef flag leaving  # our last byte is written; what still comes is thrown away
    cdef flag told  # the handler knows that the connection is over
    cdef flag strict_send  # sends to a peer that is gone raise, whoever sends
    cdef str away_reason
    cdef double ended_at  # the loop's clock when the peer was found gone; 0 before
    cdef readonly unsigned long long dropped  # sends from elsewhere after that

    # Every call of a verb goes through it.
    @cython.final
    cdef inline int check_thread(self) except -1:
        return self.refuse_thread() if fastws_thread() != self.thread else 0

    cdef int refuse_thread(self) except -1
    cdef int check_accepted(self) except -1
    cdef bint is_over(self) noexcept
    cdef int note_end(self) except -1
    cdef object end(self)
    cdef object tell(self)
    cdef bint is_quiet(self) except -1
    cdef bint is_foreign(self) except -1
