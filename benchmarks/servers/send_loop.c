/* The limit of a fan-out: what one connection sends goes to all others by a bare loop of send().
 *
 * usage: send_loop HOST PORT. It prints "ready PID" once it listens, and ends with an error when a
 * socket's buffer is full: the load has one message on its way, so that none can be. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536, EVENTS = 256 };

static int sockets[MOST]; /* open connections, in no order */
static size_t place[MOST]; /* of a descriptor in `sockets` */
static size_t count;

static void fail(const char *what) {
    fprintf(stderr, "send_loop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

static void take_connections(int epoll, int listener) {
    const int on = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST) {
            errno = EMFILE;
            fail("accept");
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        place[fd] = count;
        sockets[count++] = fd;
        watch(epoll, fd);
    }
    if (errno != EAGAIN)
        fail("accept");
}

static void drop(int fd) {
    close(fd);
    sockets[place[fd]] = sockets[--count];
    place[sockets[place[fd]]] = place[fd];
}

static void relay(int from) {
    static char message[256 * 1024];
    ssize_t length = recv(from, message, sizeof message, 0);
    if (length <= 0) {
        if (length == 0 || errno == ECONNRESET)
            drop(from);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (sockets[i] != from && send(sockets[i], message, (size_t)length, MSG_NOSIGNAL) != length)
            fail("send");
}

int main(int argc, char **argv) {
    struct rlimit limit;
    struct sockaddr_in address = {.sin_family = AF_INET};
    const int on = 1;
    if (argc != 3 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
        fputs("usage: send_loop IPV4-ADDRESS PORT\n", stderr);
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4096) < 0)
        fail("listen");
    int epoll = epoll_create1(0);
    watch(epoll, listener);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                take_connections(epoll, listener);
            else
                relay(events[i].data.fd);
        }
    }
}
