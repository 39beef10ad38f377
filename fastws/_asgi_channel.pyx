"""The receive and send callables of an ASGI application, on the compiled connection."""

from fastws._channel cimport Channel
from fastws._receiver cimport WANT_MESSAGE

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept


cdef class ASGIChannel(Channel):
    def __init__(self, link):
        Channel.__init__(self, link)
        self.thread = PyThread_get_thread_ident()

    cdef bint is_here(self) noexcept:
        """Whether the call may be carried out now.

        In another thread it only makes an awaitable, to be awaited in the loop's: that is what
        asgiref's async_to_sync() does.
        """
        return self.is_answered and self.thread == PyThread_get_thread_ident()

    @property
    def is_receiving(self):
        return self.connection.receiver is not None

    def receive(self):
        if self.is_here() and self.connection.receiver is None:
            return self.connection.receive_as(WANT_MESSAGE, None)
        return self.receive_later()

    def send(self, message):
        if type(message) is dict and self.is_here():
            if (<dict>message).get("type") == "websocket.send":
                data = (<dict>message).get("text")
                if data is not None:
                    return self.connection.send_text(data)
                data = (<dict>message).get("bytes")
                if data is not None:
                    return self.connection.send_binary(data)
        return self.send_event(message)
