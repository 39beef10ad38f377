/* One connection of the load generator: connecting, the opening handshake, sending from the shared
 * stream, and checking replies. */
#ifndef LOAD_CONNECTION_H
#define LOAD_CONNECTION_H

#include "load_histogram.h"
#include "load_stream.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum activity { ECHO, FANOUT, HANDSHAKES, IDLE };

enum state { CONNECTING, OPENING, OPEN, CLOSING, CLOSED };

struct connection {
    int fd;
    enum state state;
    bool waits_to_write; /* EPOLLOUT is armed */
    bool publishes;      /* the one connection of a fan-out that sends and gets nothing */
    uint64_t started_at; /* ns */

    /* Sending. */
    size_t position;      /* in the stream's cycle: the next byte to send */
    size_t owed;          /* bytes of the stream to send now */
    uint32_t next_send;   /* the message of the cycle to send next */
    uint32_t next_reply;  /* the message of the cycle whose reply comes next */
    uint32_t outstanding; /* messages sent whose reply has not come */
    uint64_t *sent_at;    /* ns, one for each message of the cycle */

    /* Receiving: one frame's header, then its payload, as the bytes come. */
    uint8_t header[10];
    uint8_t header_have;
    bool in_frame;
    bool in_message;           /* a fragmented message has begun (RFC 6455 section 5.4) */
    bool compressed;           /* the message has RSV1 (RFC 7692 section 6) */
    uint64_t frame_left;       /* payload bytes of this frame still to come */
    uint64_t message_position; /* payload bytes of this message seen */
    uint8_t *body;             /* the message, where it is compared whole; room for BODY_LIMIT */
    void *inflater;            /* of this connection, with compression "dedicated" */
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
    enum activity activity;
    bool raw; /* plain TCP: no handshake, no frames, replies are the bytes that were sent */
    enum compression compression;
    bool json;
    int epoll;
    struct sockaddr_in server;
    char *request; /* the opening handshake */
    size_t request_length;
    char *publish_request; /* that of the connection that publishes */
    size_t publish_request_length;
    struct stream stream;
    uint32_t inflight;
    size_t body_limit; /* most bytes of a reply that is compared whole */

    bool refill;    /* each reply is answered by the next message: the closed loop */
    bool measuring; /* replies are counted and timed */
    uint32_t open;
    uint32_t closed;
    uint64_t outstanding;
    uint64_t messages;
    uint64_t pings;
    uint64_t last_progress; /* ns: a connection opened, a reply came, a connection closed */
    struct connection *publisher;
    uint64_t published_at;
    struct histogram latency;
};

extern struct load load;

uint64_t now_ns(void);

/* Ends the process with status 1, the sentence on stderr and in a JSON line on stdout. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- load_options.c ---- */

struct settings {
    uint32_t connections;
    uint32_t ramp;
    pid_t server_pid; /* 0: nobody asked for its CPU time */
    uint64_t warmup;  /* ns */
    uint64_t duration;
};

/* Fills `load` and what it returns; ends the process when the command line is wrong. */
struct settings parse_options(int argc, char **argv);

/* ---- load_connection.c ---- */

void connection_start(struct connection *connection);
void connection_event(struct connection *connection, uint32_t events);
/* Sends `count` messages more than are answered so far. */
void connection_send(struct connection *connection, uint32_t count);
/* The closing handshake (RFC 6455 section 7), or a half-close in raw mode; the server then closes.
 */
void connection_close(struct connection *connection);
void connection_send_control(struct connection *connection, uint8_t opcode, const uint8_t *payload,
                             size_t length);
/* Closes the socket. In a handshakes run this counts, and the next one starts. */
void connection_ended(struct connection *connection);

/* ---- load_receive.c ---- */

/* These return early once the connection has ended. */
void receive_raw(struct connection *connection, const uint8_t *bytes, const uint8_t *end,
                 uint64_t now);
void receive_frames(struct connection *connection, const uint8_t *bytes, const uint8_t *end,
                    uint64_t now);

#endif
