"""Memory in which a loop's connections gather what they send; an idle one has none."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t


cdef extern from *:
    """
    #ifdef __GLIBC__
    #include <malloc.h>
    #define FASTWS_CAN_KEEP 1
    static void fastws_keep_memory(int largest, int free_at_top)
    {
        mallopt(M_MMAP_THRESHOLD, largest);
        mallopt(M_TRIM_THRESHOLD, free_at_top);
    }
    #else
    #define FASTWS_CAN_KEEP 0
    #define fastws_keep_memory(largest, free_at_top) ((void)(largest), (void)(free_at_top))
    #endif
    """
    bint FASTWS_CAN_KEEP
    void fastws_keep_memory(int largest, int free_at_top) noexcept

# What keep_memory() was told, until the first long message; 0 when there is nothing to do.
cdef int _largest = 0
cdef int _free_at_top = 0


def keep_memory(int largest, int free_at_top):
    global _largest, _free_at_top
    _largest = largest
    _free_at_top = free_at_top
    return bool(FASTWS_CAN_KEEP)


cdef void note_long_message() noexcept:
    global _largest
    if _largest != 0:
        fastws_keep_memory(_largest, _free_at_top)
        _largest = 0


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
