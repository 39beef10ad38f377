#include "load_connection.h"

#define OPCODE_CONTINUATION 0x0
#define OPCODE_CLOSE 0x8
#define OPCODE_PING 0x9
#define OPCODE_PONG 0xA

static const struct message *expected(const struct connection *connection) {
    return &load.stream.messages[connection->next_reply];
}

/* ---- messages ---- */

static void delivered(struct connection *connection, uint64_t now) {
    (void)connection;
    if (load.outstanding == 0)
        fail("the server delivered a message that nobody published");
    if (load.measuring) {
        load.messages++;
        histogram_add(&load.latency, now - load.published_at);
    }
    if (--load.outstanding == 0 && load.refill)
        connection_send(load.publisher, 1);
}

static void answered(struct connection *connection, uint64_t now) {
    if (connection->outstanding == 0)
        fail("the server sent a message that answers none of ours");
    if (load.measuring) {
        load.messages++;
        histogram_add(&load.latency, now - connection->sent_at[connection->next_reply]);
    }
    connection->outstanding--;
    load.outstanding--;
    if (load.refill) {
        const uint32_t next = connection->next_send;
        connection->sent_at[next] = now;
        connection->owed += load.stream.messages[next].length;
        connection->next_send = next + 1 == load.stream.count ? 0 : next + 1;
        connection->outstanding++;
        load.outstanding++;
    }
}

static void reply_complete(struct connection *connection, uint64_t now) {
    uint32_t slot = connection->next_reply;
    connection->message_position = 0;
    if (load.activity == HANDSHAKES) {
        connection_ended(connection);
        return;
    }
    if (load.activity == FANOUT)
        delivered(connection, now);
    else
        answered(connection, now);
    connection->next_reply = slot + 1 == load.stream.count ? 0 : slot + 1;
}

/* ---- comparing ---- */

static bool same_json(const uint8_t *reply, size_t length, const struct message *message) {
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        if (reply[i] == ' ') /* the messages have none, see load_payload.h */
            continue;
        if (at == message->reply_length || reply[i] != message->reply[at])
            return false;
        at++;
    }
    return at == message->reply_length;
}

/* Compares a whole reply, inflated before where it was compressed. */
static void check_whole(struct connection *connection) {
    static uint8_t *inflated;
    static void *shared_inflater;
    const struct message *message = expected(connection);
    const uint8_t *reply = connection->body;
    size_t length = (size_t)connection->message_position;
    if (connection->compressed) {
        bool dedicated = load.activity != IDLE && keeps_context(load.compression);
        void **inflater = dedicated ? &connection->inflater : &shared_inflater;
        if (inflated == NULL)
            inflated = malloc(load.body_limit + 1);
        if (*inflater == NULL)
            *inflater = inflater_new();
        if (inflated == NULL || *inflater == NULL)
            fail("no memory to inflate replies");
        length = inflate_message(*inflater, !dedicated, connection->body, length, inflated,
                                 load.body_limit + 1);
        if (length == SIZE_MAX)
            fail("a reply cannot be inflated, or is far longer than the message it answers");
        reply = inflated;
    } else if (load.compression != COMPRESSION_OFF && load.activity == ECHO) {
        fail("the server did not compress its reply");
    }
    if (length == message->reply_length && memcmp(reply, message->reply, length) == 0)
        return;
    if (load.json ? !same_json(reply, length, message) : true)
        fail("a reply of %zu bytes is not the message it answers: %.*s", length,
             length < 60 ? (int)length : 60, (const char *)reply);
}

/* Compares what a wrong echo would get wrong: the first bytes, the last one, and the length. */
static void check_payload(const struct connection *connection, const uint8_t *bytes,
                          uint64_t length) {
    const struct message *message = expected(connection);
    uint64_t position = connection->message_position;
    size_t head = message->reply_length < EXPECTED_HEAD ? message->reply_length : EXPECTED_HEAD;
    if (length > message->reply_length - position)
        fail("a reply is longer than the %zu bytes that were sent", message->reply_length);
    if (position < head) {
        size_t here = head - (size_t)position;
        if (here > length)
            here = (size_t)length;
        if (memcmp(bytes, message->reply + position, here) != 0)
            fail("a reply begins with other bytes than the message it answers");
    }
    if (length > 0 && position + length == message->reply_length &&
        bytes[length - 1] != message->reply[message->reply_length - 1])
        fail("a reply ends with another byte than the message it answers");
}

static void collect(struct connection *connection, const uint8_t *bytes, uint64_t length) {
    if (length > load.body_limit - connection->message_position)
        fail("a reply is longer than %zu bytes", load.body_limit);
    if (connection->body == NULL)
        connection->body = malloc(load.body_limit + 4); /* inflate_message() appends 4 */
    if (connection->body == NULL)
        fail("out of memory");
    memcpy(connection->body + connection->message_position, bytes, (size_t)length);
}

/* ---- the wire ---- */

void receive_raw(struct connection *connection, const uint8_t *bytes, const uint8_t *end,
                 uint64_t now) {
    while (bytes < end && connection->state != CLOSED && connection->state != CONNECTING) {
        size_t due = load.activity == HANDSHAKES ? load.request_length
                                                 : expected(connection)->reply_length;
        uint64_t take = due - connection->message_position;
        if (take > (uint64_t)(end - bytes))
            take = (uint64_t)(end - bytes);
        if (load.activity != HANDSHAKES)
            check_payload(connection, bytes, take);
        connection->message_position += take;
        bytes += take;
        if (connection->message_position == due)
            reply_complete(connection, now);
    }
}

static void check_header(struct connection *connection) {
    uint8_t opcode = connection->header[0] & 0x0f;
    bool final = connection->header[0] & 0x80, rsv1 = connection->header[0] & 0x40;
    bool may_compress = load.compression != COMPRESSION_OFF && !connection->in_message &&
                        opcode < OPCODE_CLOSE;
    if ((connection->header[0] & 0x30) || (rsv1 && !may_compress))
        fail("the server set a reserved bit without an extension (RFC 6455 section 5.2)");
    if (connection->header[1] & 0x80)
        fail("the server masked a frame (RFC 6455 section 5.1)");
    if (opcode >= OPCODE_CLOSE) {
        if (opcode > OPCODE_PONG || !final || connection->frame_left > 125)
            fail("the server sent a control frame that RFC 6455 section 5.5 forbids: opcode %#x",
                 opcode);
        return;
    }
    if (opcode != (connection->in_message ? OPCODE_CONTINUATION : load.stream.opcode))
        fail("the server sent opcode %#x where %#x was due", opcode,
             connection->in_message ? OPCODE_CONTINUATION : load.stream.opcode);
    if (!connection->in_message)
        connection->compressed = rsv1;
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
    uint8_t length = connection->control_have;
    connection->control_have = 0;
    switch (connection->header[0] & 0x0f) {
    case OPCODE_PING:
        load.pings++;
        if (connection->state == OPEN)
            connection_send_control(connection, OPCODE_PONG, connection->control_in, length);
        break;
    case OPCODE_CLOSE: {
        unsigned code = 1005; /* RFC 6455 section 7.1.5: no code was sent */
        if (length >= 2)
            code = (unsigned)connection->control_in[0] << 8 | connection->control_in[1];
        if (connection->state != CLOSING)
            fail("the server closed a connection with code %u and reason \"%.*s\"", code,
                 length > 2 ? length - 2 : 0, (const char *)connection->control_in + 2);
        if (code != 1000)
            fail("the server answered our close 1000 with close %u", code);
        if (load.activity == HANDSHAKES)
            connection_ended(connection);
        break;
    }
    default: /* an unsolicited pong (RFC 6455 section 5.5.3) needs no answer */ break;
    }
}

static void message_complete(struct connection *connection, uint64_t now) {
    if (load.body_limit > 0)
        check_whole(connection);
    else if (connection->message_position != expected(connection)->reply_length)
        fail("a reply had %llu bytes of payload instead of %zu",
             (unsigned long long)connection->message_position, expected(connection)->reply_length);
    reply_complete(connection, now);
}

void receive_frames(struct connection *connection, const uint8_t *bytes, const uint8_t *end,
                    uint64_t now) {
    for (;;) {
        if (connection->state == CLOSED || connection->state == CONNECTING)
            return;
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
            if (load.body_limit > 0)
                collect(connection, bytes, take);
            else
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
                message_complete(connection, now);
        }
    }
}
