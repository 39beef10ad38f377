# What an ASGI application calls, without leaving C for its messages.

from fastws._channel cimport Channel


cdef class ASGIChannel(Channel):
    cdef public bint is_answered
    cdef unsigned long thread  # whose calls may take the short way

    cdef bint is_here(self) noexcept
