#include "load_connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OPCODE_CLOSE 0x8

#define RESPONSE_LIMIT 8192

/* A loopback address has some 28,000 ports for connections to one server, those of the last minute
 * included (TIME_WAIT). */
#define SOURCE_ADDRESSES 64
#define CONNECTIONS_AN_ADDRESS 10000

/* The answer to the nonce of RFC 6455 section 1.3, which every connection sends: a client that
 * measures a server needs no SHA-1. */
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* Shared by all connections: bytes are consumed before the next read. */
static uint8_t input[256 * 1024];

/* ---- sending ---- */

static void watch_writing(struct connection *connection, bool wanted) {
    if (connection->waits_to_write == wanted)
        return;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? (uint32_t)EPOLLOUT : 0u),
                                .data.ptr = connection};
    if (epoll_ctl(load.epoll, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    connection->waits_to_write = wanted;
}

static void flush(struct connection *connection) {
    const struct stream *stream = &load.stream;
    while (connection->owed > 0 || connection->control_length > 0) {
        bool control = false;
        const uint8_t *from = stream->bytes + connection->position;
        /* The stream holds its cycle twice, so any stretch of one cycle is contiguous. */
        size_t wanted =
            connection->owed < stream->cycle_length ? connection->owed : stream->cycle_length;
        if (connection->control_length > 0) {
            size_t rest = stream_rest_of_frame(stream, connection->position);
            control = rest == 0;
            wanted = control ? connection->control_length - connection->control_sent : rest;
            if (control)
                from = connection->control_out + connection->control_sent;
        }
        ssize_t sent = send(connection->fd, from, wanted, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                watch_writing(connection, true);
                return;
            }
            fail("sending: %s", strerror(errno));
        }
        if (control) {
            connection->control_sent += (size_t)sent;
            if (connection->control_sent == connection->control_length)
                connection->control_length = connection->control_sent = 0;
        } else {
            connection->owed -= (size_t)sent;
            connection->position = (connection->position + (size_t)sent) % stream->cycle_length;
        }
    }
    watch_writing(connection, false);
}

void connection_send_control(struct connection *connection, uint8_t opcode, const uint8_t *payload,
                             size_t length) {
    /* RFC 6455 section 5.5.3 lets one pong answer several pings, but a frame that is partly out
     * cannot change any more. */
    if (connection->control_length > 0 && connection->control_sent > 0)
        fail("the server sent a second ping before it had read the pong to the first");
    connection->control_length =
        put_client_frame(connection->control_out, opcode, payload, length, 0x37fa213d);
    flush(connection);
}

void connection_send(struct connection *connection, uint32_t count) {
    const struct stream *stream = &load.stream;
    uint64_t now = now_ns();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t next = connection->next_send;
        connection->sent_at[next] = now;
        connection->owed += stream->messages[next].length;
        connection->next_send = next + 1 == stream->count ? 0 : next + 1;
    }
    if (connection->publishes) {
        load.published_at = now;
        load.outstanding += load.open - 1;
    } else {
        connection->outstanding += count;
        load.outstanding += count;
    }
    flush(connection);
}

void connection_close(struct connection *connection) {
    static const uint8_t normal_closure[2] = {1000 >> 8, 1000 & 0xff};
    if (connection->state == CLOSED)
        return;
    connection->state = CLOSING;
    if (load.raw) {
        if (shutdown(connection->fd, SHUT_WR) < 0)
            fail("shutdown: %s", strerror(errno));
    } else {
        connection_send_control(connection, OPCODE_CLOSE, normal_closure, sizeof normal_closure);
    }
}

/* ---- opening ---- */

static void opened(struct connection *connection) {
    connection->state = OPEN;
    load.open++;
    if (load.activity == HANDSHAKES && !load.raw)
        connection_close(connection);
}

/* The value of a header of the response, or NULL. */
static const char *header_value(const char *response, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(response, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':')
            return line + length + 1 + strspn(line + length + 1, " \t");
    }
    return NULL;
}

/* What this client has prepared must be what was agreed (RFC 7692 section 7.1). */
static void check_extensions(const char *response) {
    const char *value = header_value(response, "Sec-WebSocket-Extensions");
    char agreed[256];
    if (value == NULL) {
        if (load.compression != COMPRESSION_OFF)
            fail("the server negotiates no compression");
        return;
    }
    snprintf(agreed, sizeof agreed, "%.*s", (int)strcspn(value, "\r\n"), value);
    if (load.compression == COMPRESSION_OFF || strstr(agreed, "permessage-deflate") == NULL)
        fail("the server negotiated an extension that was not offered: %s", agreed);
    const char *bits = strstr(agreed, "client_max_window_bits=");
    if (bits != NULL && atoi(bits + strlen("client_max_window_bits=")) < WINDOW_BITS)
        fail("the server wants a smaller window than %d bits: %s", WINDOW_BITS, agreed);
    if (keeps_context(load.compression) && load.activity == ECHO &&
        strstr(agreed, "no_context_takeover") != NULL)
        fail("the server keeps no compression context: %s", agreed);
    if (load.compression == COMPRESSION_SHARED &&
        strstr(agreed, "server_no_context_takeover") == NULL)
        fail("the server insists on a compression context: %s", agreed);
}

/* Takes bytes of the handshake's answer; returns how many of them belong to it. */
static size_t receive_response(struct connection *connection, const uint8_t *bytes, size_t length) {
    size_t before = connection->response_length;
    size_t take = length < RESPONSE_LIMIT - before ? length : RESPONSE_LIMIT - before;
    connection->response = realloc(connection->response, before + take + 1);
    if (connection->response == NULL)
        fail("out of memory");
    memcpy(connection->response + before, bytes, take);
    connection->response_length += take;
    connection->response[connection->response_length] = '\0';
    char *end = strstr(connection->response, "\r\n\r\n");
    if (end == NULL) {
        if (connection->response_length == RESPONSE_LIMIT)
            fail("the answer to the opening handshake has no end within %d bytes", RESPONSE_LIMIT);
        return take;
    }
    size_t head = (size_t)(end - connection->response) + 4;
    *end = '\0';
    if (strncmp(connection->response, "HTTP/1.1 101 ", 13) != 0)
        fail("the server refused the opening handshake: %.*s",
             (int)strcspn(connection->response, "\r\n"), connection->response);
    const char *accept = header_value(connection->response, "Sec-WebSocket-Accept");
    if (accept == NULL || strncmp(accept, ACCEPT, sizeof ACCEPT - 1) != 0)
        fail("the server's Sec-WebSocket-Accept is missing or wrong (RFC 6455 section 4.2.2)");
    check_extensions(connection->response);
    free(connection->response);
    connection->response = NULL;
    connection->response_length = 0;
    opened(connection);
    return head - before;
}

static void connected(struct connection *connection) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error != 0)
        fail("connecting: %s", strerror(error ? error : errno));
    load.last_progress = now_ns();
    watch_writing(connection, false);
    if (load.raw) {
        opened(connection);
        if (load.activity != HANDSHAKES)
            return;
    } else {
        connection->state = OPENING;
    }
    const char *request = connection->publishes ? load.publish_request : load.request;
    size_t wanted = connection->publishes ? load.publish_request_length : load.request_length;
    /* The first bytes on a fresh socket: its buffer takes them whole. */
    if (send(connection->fd, request, wanted, MSG_NOSIGNAL) != (ssize_t)wanted)
        fail("sending the opening handshake: %s", strerror(errno));
}

static void choose_source(int fd) {
    static uint32_t started;
    const int on = 1;
    uint32_t turn = load.activity == HANDSHAKES ? started : started / CONNECTIONS_AN_ADDRESS;
    struct sockaddr_in source = {.sin_family = AF_INET};
    started++;
    if ((ntohl(load.server.sin_addr.s_addr) >> 24) != 127)
        return;
    source.sin_addr.s_addr = htonl(0x7f000001u + turn % SOURCE_ADDRESSES);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
        fail("binding to a loopback address: %s", strerror(errno));
}

void connection_start(struct connection *connection) {
    int on = 1;
    connection->state = CONNECTING;
    connection->started_at = now_ns();
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    choose_source(connection->fd);
    if (connection->sent_at == NULL)
        connection->sent_at = calloc(load.stream.count, sizeof *connection->sent_at);
    if (connection->sent_at == NULL)
        fail("out of memory");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    connection->waits_to_write = true;
    if (connect(connection->fd, (struct sockaddr *)&load.server, sizeof load.server) < 0 &&
        errno != EINPROGRESS)
        fail("connecting: %s", strerror(errno));
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* ---- ending ---- */

void connection_ended(struct connection *connection) {
    close(connection->fd);
    if (load.activity != HANDSHAKES || !load.refill) {
        connection->state = CLOSED;
        load.closed++;
        return;
    }
    if (load.measuring) {
        load.messages++;
        histogram_add(&load.latency, now_ns() - connection->started_at);
    }
    uint64_t *sent_at = connection->sent_at;
    memset(connection, 0, sizeof *connection);
    connection->sent_at = sent_at;
    connection_start(connection);
}

static void receive(struct connection *connection) {
    ssize_t got = recv(connection->fd, input, sizeof input, 0);
    if (got < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return;
        if (errno != ECONNRESET || connection->state != CLOSING)
            fail("receiving: %s", strerror(errno));
        got = 0;
    }
    uint64_t now = now_ns();
    load.last_progress = now;
    if (got == 0) {
        if (connection->state == OPENING)
            fail("the server closed a connection instead of answering the opening handshake");
        if (connection->state != CLOSING)
            fail("the server dropped a connection without a close frame");
        if (load.activity == HANDSHAKES)
            fail("the server dropped a connection instead of answering the closing handshake");
        connection_ended(connection);
        return;
    }
    const uint8_t *bytes = input, *end = input + got;
    if (connection->state == OPENING) {
        bytes += receive_response(connection, bytes, (size_t)got);
        if (connection->state == OPENING)
            return;
    }
    if (load.raw)
        receive_raw(connection, bytes, end, now);
    else
        receive_frames(connection, bytes, end, now);
    if (connection->owed > 0 && !connection->waits_to_write)
        flush(connection);
}

void connection_event(struct connection *connection, uint32_t events) {
    if (connection->state == CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            connected(connection);
        return;
    }
    if (connection->state == CLOSED)
        return;
    if (events & EPOLLOUT)
        flush(connection);
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(connection);
}
