"""Memory in which a loop's connections gather what they send; an idle one has none."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t


cdef extern from *:
    """
    #ifdef __GLIBC__
    #include <malloc.h>
    static int fastws_keep_memory(int largest, int free_at_top)
    {
        return mallopt(M_MMAP_THRESHOLD, largest) && mallopt(M_TRIM_THRESHOLD, free_at_top);
    }
    #else
    #define fastws_keep_memory(largest, free_at_top) ((void)(largest), (void)(free_at_top), 0)
    #endif
    """
    bint fastws_keep_memory(int largest, int free_at_top) noexcept


def keep_memory(int largest, int free_at_top):
    return fastws_keep_memory(largest, free_at_top)


cdef class Buffers:
    cdef uint8_t *take(self) except NULL:
        cdef uint8_t *buffer
        if self.count:
            self.count -= 1
            return self.spare[self.count]
        buffer = <uint8_t *>PyMem_Malloc(BUFFER)
        if buffer == NULL:
            raise MemoryError()
        return buffer

    cdef void give_back(self, uint8_t *buffer) noexcept:
        if self.count < SPARE:
            self.spare[self.count] = buffer
            self.count += 1
        else:
            PyMem_Free(buffer)

    def __dealloc__(self):
        while self.count:
            self.count -= 1
            PyMem_Free(self.spare[self.count])
