# What a handler calls, without leaving C where the back end is the compiled connection.

from fastws._connection cimport Connection


cdef class Channel:
    cdef Connection connection  # None where another ASGI server carries the connection
    cdef readonly object _link  # the back end: the same Connection, or an ASGIConnection
    cdef tuple denial  # status, headers, pieces of the body: a denial response under way in send()
