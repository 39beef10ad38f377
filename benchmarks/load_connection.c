#include "load_connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OPCODE_CONTINUATION 0x0
#define OPCODE_CLOSE 0x8
#define OPCODE_PING 0x9
#define OPCODE_PONG 0xA

#define RESPONSE_LIMIT 8192

/* The answer to the nonce of RFC 6455 section 1.3, which every connection sends: a client that
 * measures a server needs no SHA-1. */
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* Shared by all connections: bytes are consumed before the next read. */
static uint8_t input[256 * 1024];

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
        size_t into_frame = connection->position % stream->frame_length;
        bool control = connection->control_length > 0 && into_frame == 0;
        const uint8_t *from = stream->bytes + connection->position;
        /* The stream holds its cycle twice, so any stretch of one cycle is contiguous. */
        size_t wanted =
            connection->owed < stream->cycle_length ? connection->owed : stream->cycle_length;
        if (control) {
            from = connection->control_out + connection->control_sent;
            wanted = connection->control_length - connection->control_sent;
        } else if (connection->control_length > 0) {
            wanted = stream->frame_length - into_frame;
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

static void send_control(struct connection *connection, uint8_t opcode, const uint8_t *payload,
                         size_t length) {
    if (connection->control_length > 0) {
        /* RFC 6455 section 5.5.3 lets one pong answer several pings, but a frame that is partly out
         * cannot change any more. */
        if (connection->control_sent > 0)
            fail("the server sent a second ping before it had read the pong to the first");
    }
    connection->control_length =
        put_client_frame(connection->control_out, opcode, payload, length, 0x37fa213d);
    flush(connection);
}

void connection_send(struct connection *connection, uint32_t count) {
    uint64_t now = now_ns();
    uint32_t slot = connection->next_reply + connection->outstanding;
    for (uint32_t i = 0; i < count; i++)
        connection->sent_at[(slot + i) % load.inflight] = now;
    connection->owed += count * load.stream.frame_length;
    connection->outstanding += count;
    load.outstanding += count;
    flush(connection);
}

void connection_close(struct connection *connection) {
    static const uint8_t normal_closure[2] = {1000 >> 8, 1000 & 0xff};
    connection->state = CLOSING;
    if (load.mode == MODE_TCP) {
        if (shutdown(connection->fd, SHUT_WR) < 0)
            fail("shutdown: %s", strerror(errno));
    } else {
        send_control(connection, OPCODE_CLOSE, normal_closure, sizeof normal_closure);
    }
}

/* ---- receiving ---- */

static void reply_complete(struct connection *connection, uint64_t now) {
    if (connection->outstanding == 0)
        fail("the server sent a message that answers none of ours");
    if (connection->message_position != load.stream.reply_length)
        fail("a reply had %llu bytes of payload instead of %llu",
             (unsigned long long)connection->message_position,
             (unsigned long long)load.stream.reply_length);
    uint32_t slot = connection->next_reply;
    connection->message_position = 0;
    connection->next_reply = slot + 1 == load.inflight ? 0 : slot + 1;
    if (load.measuring) {
        load.messages++;
        histogram_add(&load.latency, now - connection->sent_at[slot]);
    }
    if (load.refill) {
        connection->sent_at[slot] = now;
        connection->owed += load.stream.frame_length;
    } else {
        connection->outstanding--;
        load.outstanding--;
    }
}

/* Compares what a wrong echo would get wrong: the first bytes, the last one, and the length. */
static void check_payload(const struct connection *connection, const uint8_t *bytes,
                          uint64_t length) {
    const struct stream *stream = &load.stream;
    const struct expectation *expected = &stream->expectations[connection->next_reply];
    uint64_t position = connection->message_position;
    if (length > stream->reply_length - position)
        fail("a reply is longer than the %llu bytes that were sent",
             (unsigned long long)stream->reply_length);
    if (position < stream->head_length) {
        size_t here = stream->head_length - (size_t)position;
        if (here > length)
            here = (size_t)length;
        if (memcmp(bytes, expected->head + position, here) != 0)
            fail("a reply begins with other bytes than the message it answers");
    }
    if (length > 0 && position + length == stream->reply_length &&
        bytes[length - 1] != expected->last)
        fail("a reply ends with another byte than the message it answers");
}

static void receive_raw(struct connection *connection, const uint8_t *bytes, const uint8_t *end,
                        uint64_t now) {
    while (bytes < end) {
        uint64_t take = load.stream.reply_length - connection->message_position;
        if (take > (uint64_t)(end - bytes))
            take = (uint64_t)(end - bytes);
        check_payload(connection, bytes, take);
        connection->message_position += take;
        bytes += take;
        if (connection->message_position == load.stream.reply_length)
            reply_complete(connection, now);
    }
}

static void check_header(const struct connection *connection) {
    uint8_t opcode = connection->header[0] & 0x0f;
    bool final = connection->header[0] & 0x80;
    if (connection->header[0] & 0x70)
        fail("the server set a reserved bit without an extension (RFC 6455 section 5.2)");
    if (connection->header[1] & 0x80)
        fail("the server masked a frame (RFC 6455 section 5.1)");
    if (opcode >= OPCODE_CLOSE) {
        if (opcode > OPCODE_PONG || !final || connection->frame_left > 125)
            fail("the server sent a control frame that RFC 6455 section 5.5 forbids: opcode %#x",
                 opcode);
    } else if (opcode != (connection->in_message ? OPCODE_CONTINUATION : load.stream.opcode)) {
        fail("the server sent opcode %#x where %#x was due", opcode,
             connection->in_message ? OPCODE_CONTINUATION : load.stream.opcode);
    }
}

/* Takes header bytes from *bytes; true when the header is whole. */
static bool receive_header(struct connection *connection, const uint8_t **bytes,
                           const uint8_t *end) {
    for (;;) {
        size_t wanted = 2, extended = 0;
        if (connection->header_have >= 2) {
            uint8_t length = connection->header[1] & 0x7f;
            extended = length == 126 ? 2 : length == 127 ? 8 : 0;
            wanted += extended;
            if (connection->header_have == wanted) {
                connection->frame_left = extended ? 0 : length;
                for (size_t i = 2; i < wanted; i++)
                    connection->frame_left = connection->frame_left << 8 | connection->header[i];
                return true;
            }
        }
        if (*bytes == end)
            return false;
        connection->header[connection->header_have++] = *(*bytes)++;
    }
}

static void control_complete(struct connection *connection) {
    switch (connection->header[0] & 0x0f) {
    case OPCODE_PING:
        load.pings++;
        if (connection->state == OPEN)
            send_control(connection, OPCODE_PONG, connection->control_in, connection->control_have);
        break;
    case OPCODE_CLOSE: {
        unsigned code = 1005; /* RFC 6455 section 7.1.5: no code was sent */
        if (connection->control_have >= 2)
            code = (unsigned)connection->control_in[0] << 8 | connection->control_in[1];
        if (connection->state != CLOSING)
            fail("the server closed a connection with code %u and reason \"%.*s\"", code,
                 connection->control_have > 2 ? connection->control_have - 2 : 0,
                 (const char *)connection->control_in + 2);
        if (code != 1000)
            fail("the server answered our close 1000 with close %u", code);
        break;
    }
    default: /* an unsolicited pong (RFC 6455 section 5.5.3) needs no answer */ break;
    }
    connection->control_have = 0;
}

static void receive_frames(struct connection *connection, const uint8_t *bytes, const uint8_t *end,
                           uint64_t now) {
    for (;;) {
        if (!connection->in_frame) {
            if (!receive_header(connection, &bytes, end))
                return;
            check_header(connection);
            connection->in_frame = true;
        }
        bool control = (connection->header[0] & 0x0f) >= OPCODE_CLOSE;
        uint64_t take = connection->frame_left;
        if (take > (uint64_t)(end - bytes))
            take = (uint64_t)(end - bytes);
        if (control) {
            memcpy(connection->control_in + connection->control_have, bytes, (size_t)take);
            connection->control_have = (uint8_t)(connection->control_have + take);
        } else {
            check_payload(connection, bytes, take);
            connection->message_position += take;
        }
        bytes += take;
        connection->frame_left -= take;
        if (connection->frame_left > 0)
            return;
        connection->in_frame = false;
        connection->header_have = 0;
        if (control) {
            control_complete(connection);
        } else {
            connection->in_message = !(connection->header[0] & 0x80);
            if (!connection->in_message)
                reply_complete(connection, now);
        }
    }
}

/* ---- opening ---- */

static void opened(struct connection *connection) {
    connection->state = OPEN;
    load.open++;
}

static bool has_accept(char *response) {
    for (char *line = strtok(response, "\r\n"); line != NULL; line = strtok(NULL, "\r\n")) {
        if (strncasecmp(line, "Sec-WebSocket-Accept:", 21) == 0) {
            const char *value = line + 21 + strspn(line + 21, " \t");
            return strncmp(value, ACCEPT, sizeof ACCEPT - 1) == 0;
        }
    }
    return false;
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
    if (!has_accept(connection->response))
        fail("the server's Sec-WebSocket-Accept is missing or wrong (RFC 6455 section 4.2.2)");
    free(connection->response);
    connection->response = NULL;
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
    if (load.mode == MODE_TCP) {
        opened(connection);
        return;
    }
    connection->state = OPENING;
    /* The first bytes on a fresh socket: its buffer takes them whole. */
    if (send(connection->fd, load.request, load.request_length, MSG_NOSIGNAL) !=
        (ssize_t)load.request_length)
        fail("sending the opening handshake: %s", strerror(errno));
}

void connection_start(struct connection *connection) {
    int on = 1;
    connection->state = CONNECTING;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->sent_at = calloc(load.inflight, sizeof *connection->sent_at);
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

static void receive(struct connection *connection) {
    ssize_t got = recv(connection->fd, input, sizeof input, 0);
    if (got < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return;
        fail("receiving: %s", strerror(errno));
    }
    uint64_t now = now_ns();
    load.last_progress = now;
    if (got == 0) {
        if (connection->state == OPENING)
            fail("the server closed a connection instead of answering the opening handshake");
        if (connection->state != CLOSING)
            fail("the server dropped a connection without a close frame");
        close(connection->fd);
        connection->state = CLOSED;
        load.closed++;
        return;
    }
    const uint8_t *bytes = input, *end = input + got;
    if (connection->state == OPENING) {
        bytes += receive_response(connection, bytes, (size_t)got);
        if (connection->state != OPEN)
            return;
    }
    if (load.mode == MODE_TCP)
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
    if (events & EPOLLOUT)
        flush(connection);
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(connection);
}
