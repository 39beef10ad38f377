# One WebSocket on an asyncio (uvloop) transport: the receive queue, the writer, the timers.
#
# A connection belongs to the thread of its loop. It is the transport's protocol from start() on; its
# rules are Session's. References in a circle (transport, task, timer) are cut in connection_lost().

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._awaitables cimport Awaitable
from fastws._protocol cimport Session
from fastws._timers cimport Timer, TimerWheel
from fastws._waking cimport Waiter

# What a receive wants of the next message.
cdef enum:
    WANT_TEXT = 0
    WANT_BYTES = 1
    WANT_JSON_TEXT = 2
    WANT_JSON_BINARY = 3
    WANT_MESSAGE = 4  # as an ASGI event
    WANT_ITEM = 5  # either kind, as it is; the end stops an iteration


@cython.final
cdef class Connection(Session):
    # -- given once ---------------------------------------------------------------------------
    cdef readonly object loop
    cdef TimerWheel timers
    cdef Timer timer  # this connection's one deadline
    cdef object limits
    cdef object deflate_options  # limits.DeflateOptions, None for no compression
    cdef object upgrade  # handshake.Upgrade until it is answered, then None
    cdef readonly bytes head
    cdef readonly object client
    cdef readonly object server
    cdef readonly bint secure
    cdef readonly str root_path
    cdef readonly object lifespan_state
    cdef object extra_headers  # for the response, None once it is sent
    cdef object on_lost
    cdef readonly str subprotocol
    cdef void *thread  # whose calls are allowed
    cdef unsigned long long serial
    cdef object __weakref__
    # -- transport ----------------------------------------------------------------------------
    cdef object transport  # None once TCP is lost
    cdef readonly object task  # the handler's, None once it is done
    cdef bytes early  # bytes received before the opening handshake was answered
    cdef bint reading_paused  # the transport was told not to read
    cdef bint write_paused  # the transport's buffer is above its mark
    cdef bint peer_done  # EOF came
    cdef bint leaving  # our last byte is written; what still comes is thrown away
    cdef Py_ssize_t unsent  # bytes before our CLOSE in the transport, when last looked at
    # -- the receive queue: a ring of owned str and bytes ------------------------------------
    cdef PyObject **ring
    cdef unsigned capacity  # a power of two, 0 before the first message
    cdef unsigned first
    cdef unsigned count
    cdef Py_ssize_t queued_bytes
    cdef unsigned max_queue
    cdef Py_ssize_t max_queue_bytes
    cdef bint stalled  # the queue is full: input waits undecoded, or in the kernel
    cdef bint decoding
    cdef bint refilling  # decoding while a message is being taken from the queue
    cdef Receive receiver  # the one that waits, or None
    cdef Waiter waiter  # what its task waits on; None before the first wait
    cdef Receive spare  # used again by the next receive if nobody else holds it
    # -- the writer ---------------------------------------------------------------------------
    cdef PyObject *gathered  # owned bytes of GATHER: frames of this step, or NULL
    cdef Py_ssize_t gathered_size
    cdef bint flush_due  # on_step_end() will be called
    cdef list drainers  # futures of sends that wait for the write buffer; None before the first
    cdef list closers  # futures of close() calls that wait for the closing handshake; likewise
    cdef bytes owed_pong  # the one to send when the writer has drained
    cdef unsigned loose  # sends above the write buffer's mark that no task waits for
    # -- liveness -----------------------------------------------------------------------------
    cdef double last_heard  # the wheel's clock
    cdef double ping_sent  # the same; 0 while no keepalive PING is out
    cdef bytes ping_payload
    cdef dict pings  # payload -> (future, time) of ping() calls
    # -- ends ---------------------------------------------------------------------------------
    cdef int away_code  # of this server's shutdown, 0 before
    cdef str away_reason
    cdef bint closed_here  # the application's close() ended the connection
    cdef bint told  # the handler knows that the connection is over
    cdef double ended_at  # the loop's clock when the peer was found gone; 0 before
    cdef readonly unsigned long long dropped  # sends from elsewhere after that
    cdef bint strict_send  # such sends raise
    cdef bint cancel_on_disconnect
    cdef object on_end  # called once when the handler or TCP has ended
    cdef bint disconnect_given  # receive() has returned websocket.disconnect

    cdef int check_thread(self) except -1
    cdef int check_accepted(self) except -1
    # receiving
    cdef int _decode(self) except -1
    cdef bint _is_full(self) noexcept
    cdef int _push(self, object item) except -1
    cdef object _pop(self)
    cdef int _refill(self) except -1
    cdef void _drop_queue(self) noexcept
    cdef int _wake(self) except -1
    cdef bint _is_over(self) noexcept
    cdef int _input_ended(self) except -1
    cdef int _answer_end(self) except -1
    cdef int _end_at_once(self) except -1
    cdef int _note_end(self) except -1
    cdef int _end_tasks(self) except -1
    cdef object _end(self)
    cdef object _tell(self)
    # sending
    cdef bint may_send(self) except -1
    cdef bint _is_quiet(self) except -1
    cdef object sent(self)
    cdef int _write(self, bytes data) except -1
    cdef int flush(self) except -1
    # ends
    cdef int _leave(self) except -1
    cdef int _check_not_lost(self) except -1
    cdef int _refuse(self, bytes response) except -1
    cdef int _refuse_with_text(self, int status, str text) except -1
    cdef int _refuse_with_exception(self, object error) except -1
    cdef int _finish_handler(self, object error, bint cancelled) except -1
    cdef int _crash(self, object error) except -1
    cdef int _abort_soon(self) except -1
    cdef int _start_close_timer(self) except -1
    cdef int _abort_unless_draining(self) except -1
    cdef int _keep_alive(self) except -1
    cdef int _pong(self, bytes payload) except -1

    # The verbs of Channel.
    cdef object receive_as(self, int want, object timeout)
    cdef object send_text(self, object data)
    cdef object send_binary(self, object data)
    cdef object send_json_bytes(self, bytes data, bint binary)
    cdef object accept(self, object subprotocol, object headers)
    cdef object close(self, object code, object reason)
    cdef object ping(self, object data)
    cdef object deny(self, int status, object headers, object body)


@cython.final
cdef class Receive(Awaitable):
    cdef Connection connection  # None once the receive is over
    cdef int want
    cdef object timeout  # seconds or None
    cdef object decode  # makes an object of the message; None where it is the item or plain JSON
    cdef bint waiting  # as the connection's receiver
    cdef object alarm  # the loop's handle for the timeout
    cdef bint timed_out

    cdef object _convert(self, object item)
    cdef int _wait(self, PyObject **result) except -1
    cdef int _yield(self, PyObject **result) except -1
    cdef int _detach(self) except -1


# A send above the write buffer's mark, or a close() before the closing handshake is done.
@cython.final
cdef class Pause(Awaitable):
    cdef Connection connection
    cdef bint closing
    cdef bint awaited
    cdef object future  # in the connection's drainers or closers while it waits
