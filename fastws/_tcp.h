/* Bytes straight to and from the kernel, and what it knows of a connection's outgoing ones. */

#ifndef FASTWS_TCP_H
#define FASTWS_TCP_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

#ifndef _WIN32
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

/* Send two pieces of memory, one after the other. The bytes that the kernel took, from the front;
 * fewer than all, or 0, if it has no room or the connection is broken: a transport that is given
 * the rest finds out which. Never waits. */
static inline Py_ssize_t fastws_send(int fd, const void *head, size_t head_size, const void *body,
                                     size_t body_size) {
#ifdef _WIN32
    (void)fd, (void)head, (void)head_size, (void)body, (void)body_size;
    return 0;
#else
    ssize_t sent;
    if (body_size == 0) {
        do
            sent = send(fd, head, head_size, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
    } else {
        /* sendmsg() only reads what iov_base points to. */
        struct iovec pieces[2] = {{(void *)(uintptr_t)head, head_size},
                                  {(void *)(uintptr_t)body, body_size}};
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = pieces;
        message.msg_iovlen = 2;
        do
            sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
    }
    return sent < 0 ? 0 : sent;
#endif
}

/* End this side of the connection behind what was sent. Whether the peer's side is still there. */
static inline int fastws_end_output(int fd) {
#ifdef _WIN32
    (void)fd;
    return 0;
#else
    return shutdown(fd, SHUT_WR) == 0;
#endif
}

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
