/* What the kernel knows of a connection's outgoing bytes, where it tells. */

#ifndef FASTWS_TCP_H
#define FASTWS_TCP_H

#include <stdint.h>
#include <string.h>

#ifndef _WIN32
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#endif

/* Bytes that the peer's TCP has not acknowledged; 0 where this is not told. */
static inline long long fastws_unacknowledged(int fd) {
#ifdef TIOCOUTQ
    int held = 0;
    if (fd >= 0 && ioctl(fd, TIOCOUTQ, &held) == 0 && held > 0) {
        return held;
    }
#else
    (void)fd;
#endif
    return 0;
}

/* Bytes that it has acknowledged since the connection was made; -1 where this is not told. */
static inline long long fastws_acknowledged(int fd) {
#ifdef __linux__
    /* tcpi_bytes_acked, since Linux 4.1; the C library's struct may be older than the kernel's. */
    enum { OFFSET = 120 };
    unsigned char info[256];
    socklen_t size = sizeof info;
    uint64_t acknowledged;
    if (fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0 &&
        size >= OFFSET + sizeof acknowledged) {
        memcpy(&acknowledged, info + OFFSET, sizeof acknowledged);
        return (long long)acknowledged;
    }
#else
    (void)fd;
#endif
    return -1;
}

#endif
