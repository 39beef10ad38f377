/* A clock that costs next to nothing to read, and counts in steps of some milliseconds. */

#ifndef FASTWS_CLOCK_H
#define FASTWS_CLOCK_H

#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

/* Milliseconds since some moment; it never goes back. */
static inline long long fastws_coarse_clock(void) {
#ifdef _WIN32
    return (long long)GetTickCount64();
#else
    struct timespec now;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
#endif
}

#endif
