# Memory in which a loop's connections gather what they send.

cimport cython
from libc.stdint cimport uint8_t

cdef enum:
    BUFFER = 16384  # bytes of each
    SPARE = 32  # that a loop keeps


# A long message arrives: what keep_memory() was told is for it.
cdef void note_long_message() noexcept


@cython.final
cdef class Buffers:
    cdef uint8_t *spare[SPARE]  # owned
    cdef int count

    cdef uint8_t *take(self) except NULL
    cdef void give_back(self, uint8_t *buffer) noexcept
