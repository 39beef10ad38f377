/* One connection of the load generator: connecting, the opening handshake, sending from the shared
 * stream, and checking replies. */
#ifndef LOAD_CONNECTION_H
#define LOAD_CONNECTION_H

#include "load_histogram.h"
#include "load_stream.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum mode { MODE_WS, MODE_TCP, MODE_IDLE };

enum state { CONNECTING, OPENING, OPEN, CLOSING, CLOSED };

struct connection {
    int fd;
    enum state state;
    bool waits_to_write; /* EPOLLOUT is armed */

    /* Sending. */
    size_t position;      /* in the stream's cycle: the next byte to send */
    size_t owed;          /* bytes of the stream to send now */
    uint32_t outstanding; /* messages asked for whose reply has not come */
    uint32_t next_reply;  /* the frame of the cycle whose reply comes next; its successor is sent in
                             its place */
    uint64_t *sent_at;    /* ns, one for each frame of the cycle */

    /* Receiving: one frame's header, then its payload, as the bytes come. */
    uint8_t header[10];
    uint8_t header_have;
    bool in_frame;
    bool in_message;           /* a fragmented message has begun (RFC 6455 section 5.4) */
    uint64_t frame_left;       /* payload bytes of this frame still to come */
    uint64_t message_position; /* payload bytes of this message seen */
    uint8_t control_in[125];
    uint8_t control_have;

    /* A pong or a close on its way out. It goes between two frames of the stream, never into one.
     */
    uint8_t control_out[14 + 125];
    size_t control_length;
    size_t control_sent;

    char *response; /* head of the handshake's answer, while OPENING */
    size_t response_length;
};

/* Everything the connections share; the run's phases in load.c turn its switches. */
struct load {
    enum mode mode;
    int epoll;
    struct sockaddr_in server;
    char *request; /* the opening handshake */
    size_t request_length;
    struct stream stream;
    uint32_t inflight;

    bool refill;    /* each reply is answered by the next message: the closed loop */
    bool measuring; /* replies are counted and timed */
    uint32_t open;
    uint32_t closed;
    uint64_t outstanding;
    uint64_t messages;
    uint64_t pings;
    uint64_t last_progress; /* ns: a connection opened, a reply came, a connection closed */
    struct histogram latency;
};

extern struct load load;

uint64_t now_ns(void);

/* Ends the process with status 1, the sentence on stderr and in a JSON line on stdout. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

void connection_start(struct connection *connection);
void connection_event(struct connection *connection, uint32_t events);
/* Sends `count` messages more than are answered so far. */
void connection_send(struct connection *connection, uint32_t count);
/* The closing handshake (RFC 6455 section 7), or a half-close in tcp mode; the server then closes.
 */
void connection_close(struct connection *connection);

#endif
