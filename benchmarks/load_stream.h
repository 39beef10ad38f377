/* What each connection of the load generator sends: an endless repetition of the same few prebuilt
 * client frames. Building them once keeps masking, compressing and copying out of the measured
 * loop; a burst is one pointer and one length. */
#ifndef LOAD_STREAM_H
#define LOAD_STREAM_H

#include "load_deflate.h"
#include "load_payload.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What tells the reply to one message from the reply to another and from a damaged one, at the
 * price of two comparisons; JSON and what was compressed are compared whole. */
#define EXPECTED_HEAD 8

/* So many different messages at least, so that compression finds other ones before each. */
#define LEAST_CYCLE 16
/* Above this size the cycle is as short as can be: memory is not what is measured. */
#define LARGE (64 * 1024)

struct message {
    size_t offset;   /* of its frame in the stream */
    size_t length;   /* of its frame: header, masking key and payload */
    uint8_t *reply;  /* what must come back: the payload, or the whole frame from a raw echo */
    size_t reply_length;
};

struct stream {
    uint8_t *bytes; /* the cycle, twice over: a burst that starts anywhere in it is contiguous */
    size_t cycle_length;
    struct message *messages;
    uint32_t count; /* messages of the cycle: no fewer than are in flight */
    uint8_t opcode; /* 1 text, 2 binary */
};

struct stream_options {
    enum payload payload;
    enum compression compression;
    size_t size;
    uint32_t inflight;
    bool raw; /* the peer returns every byte as it was sent */
};

static inline size_t put_client_header(uint8_t *at, uint8_t first, uint64_t length, uint32_t key) {
    size_t used = 2;
    at[0] = (uint8_t)(0x80 | first);
    if (length < 126) {
        at[1] = (uint8_t)(0x80 | length);
    } else {
        unsigned extended = length <= UINT16_MAX ? 2 : 8;
        at[1] = (uint8_t)(0x80 | (extended == 2 ? 126 : 127));
        for (unsigned i = 0; i < extended; i++)
            at[used++] = (uint8_t)(length >> (8 * (extended - 1 - i)));
    }
    memcpy(at + used, &key, sizeof key);
    return used + sizeof key;
}

/* Header, key and masked payload at `at`, which has room for 14 bytes more than the payload.
 * `first` is the opcode, with RSV1 (0x40) for a compressed message. Returns the frame's length. */
static inline size_t put_client_frame(uint8_t *at, uint8_t first, const uint8_t *payload,
                                      size_t length, uint32_t key) {
    size_t header = put_client_header(at, first, length, key);
    const uint8_t *mask = at + header - 4;
    for (size_t i = 0; i < length; i++)
        at[header + i] = payload[i] ^ mask[i & 3];
    return header + length;
}

/* The frames of the cycle, once, at stream->bytes, which has room for them. Keys need not be
 * unpredictable here (RFC 6455 section 5.3 is about proxies), only different. False without memory.
 */
static inline bool stream_fill(struct stream *stream, const struct stream_options *options) {
    uint32_t key_state = 2463534242u;
    bool whole = true;
#ifdef LOAD_ZLIB
    z_stream compressor;
    if (options->compression != COMPRESSION_OFF && !deflate_start(&compressor))
        return false;
#endif
    for (uint32_t i = 0; i < stream->count && whole; i++) {
        struct message *message = &stream->messages[i];
        uint8_t *payload = malloc(options->size), *wire = payload, first = stream->opcode;
        size_t wire_length = options->size;
        if (payload == NULL)
            return false;
        fill_payload(payload, options->size, options->payload, i);
#ifdef LOAD_ZLIB
        if (options->compression != COMPRESSION_OFF) {
            /* The first of the cycle must not refer to others: it comes first, and after the last.
             */
            bool fresh = i == 0 || options->compression == COMPRESSION_SHARED;
            wire = deflate_message(&compressor, payload, options->size, fresh, &wire_length);
            first |= 0x40;
        }
#endif
        whole = wire != NULL;
        message->offset = stream->cycle_length;
        message->reply = payload;
        message->reply_length = options->size;
        if (whole) {
            uint8_t *at = stream->bytes + stream->cycle_length;
            message->length = put_client_frame(at, first, wire, wire_length, next_number(&key_state));
            stream->cycle_length += message->length;
            if (options->raw) {
                message->reply = at;
                message->reply_length = message->length;
            }
        }
        if (wire != payload)
            free(wire);
    }
#ifdef LOAD_ZLIB
    if (options->compression != COMPRESSION_OFF)
        deflateEnd(&compressor);
#endif
    return whole;
}

/* False when memory is short. */
static inline bool stream_build(struct stream *stream, const struct stream_options *options) {
    stream->count = options->inflight;
    if (stream->count < LEAST_CYCLE && options->size <= LARGE)
        stream->count = LEAST_CYCLE;
    stream->opcode = options->payload == PAYLOAD_BINARY ? 2 : 1;
    size_t room = stream->count * (options->size + options->size / 1000 + 128);
    stream->bytes = malloc(2 * room);
    stream->messages = calloc(stream->count, sizeof *stream->messages);
    if (stream->bytes == NULL || stream->messages == NULL || !stream_fill(stream, options))
        return false;
    memcpy(stream->bytes + stream->cycle_length, stream->bytes, stream->cycle_length);
    return true;
}

/* Bytes from this position in the cycle to the end of the frame it lies in; 0 between two frames.
 */
static inline size_t stream_rest_of_frame(const struct stream *stream, size_t position) {
    for (uint32_t i = 0; i < stream->count; i++) {
        const struct message *message = &stream->messages[i];
        if (position > message->offset && position < message->offset + message->length)
            return message->offset + message->length - position;
    }
    return 0;
}

#endif
