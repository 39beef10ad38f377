/* What each connection of the load generator sends: an endless repetition of the same few prebuilt
 * client frames. Building them once keeps masking and copying out of the measured loop; a burst is
 * one pointer and one length. */
#ifndef LOAD_STREAM_H
#define LOAD_STREAM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECTED_HEAD 8

/* What tells the reply to one frame from the reply to another and from a damaged one, at the price
 * of two comparisons. */
struct expectation {
    uint8_t head[EXPECTED_HEAD];
    uint8_t last;
};

struct stream {
    uint8_t *bytes; /* the cycle, twice over: a burst that starts anywhere in it is contiguous */
    size_t frame_length;              /* header, masking key and payload */
    size_t cycle_length;              /* frames * frame_length */
    struct expectation *expectations; /* one for each frame of the cycle */
    size_t head_length;    /* bytes of `head` in use: less than EXPECTED_HEAD for a tiny payload */
    uint64_t reply_length; /* payload bytes of the reply, or of the raw echo */
    uint8_t opcode;        /* 1 text, 2 binary */
};

static inline size_t put_client_header(uint8_t *at, uint8_t opcode, uint64_t length, uint32_t key) {
    size_t used = 2;
    at[0] = (uint8_t)(0x80 | opcode);
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
 * Returns the frame's length. */
static inline size_t put_client_frame(uint8_t *at, uint8_t opcode, const uint8_t *payload,
                                      size_t length, uint32_t key) {
    size_t header = put_client_header(at, opcode, length, key);
    const uint8_t *mask = at + header - 4;
    for (size_t i = 0; i < length; i++)
        at[header + i] = payload[i] ^ mask[i & 3];
    return header + length;
}

static inline uint32_t next_masking_key(uint32_t *state) {
    /* Keys need not be unpredictable here (RFC 6455 section 5.3 is about proxies), only different;
     * a run is repeatable. */
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* `raw`: the peer returns every byte as it was sent, so that the reply is the whole frame. Returns
 * 0 when memory is short. */
static inline int stream_build(struct stream *stream, size_t frames, size_t size, int binary,
                               int raw) {
    uint8_t *payload = malloc(size);
    uint8_t header[14];
    uint32_t key_state = 2463534242u;
    stream->opcode = binary ? 2 : 1;
    stream->frame_length = put_client_header(header, stream->opcode, size, 0) + size;
    stream->cycle_length = frames * stream->frame_length;
    stream->reply_length = raw ? stream->frame_length : size;
    stream->head_length =
        stream->reply_length < EXPECTED_HEAD ? (size_t)stream->reply_length : EXPECTED_HEAD;
    stream->bytes = malloc(2 * stream->cycle_length);
    stream->expectations = calloc(frames, sizeof *stream->expectations);
    if (payload == NULL || stream->bytes == NULL || stream->expectations == NULL)
        return 0;
    for (size_t frame = 0; frame < frames; frame++) {
        uint8_t *at = stream->bytes + frame * stream->frame_length;
        char number[EXPECTED_HEAD + 1];
        for (size_t i = 0; i < size; i++)
            payload[i] = (uint8_t)('a' + (i + frame) % 26);
        /* The frame's number opens its payload: replies in a wrong order are seen. */
        snprintf(number, sizeof number, "%08zu", frame % 100000000);
        size_t digits = size < EXPECTED_HEAD ? size : EXPECTED_HEAD;
        memcpy(payload, number + EXPECTED_HEAD - digits, digits);
        put_client_frame(at, stream->opcode, payload, size, next_masking_key(&key_state));
        const uint8_t *reply = raw ? at : payload;
        memcpy(stream->expectations[frame].head, reply, stream->head_length);
        stream->expectations[frame].last = reply[stream->reply_length - 1];
    }
    memcpy(stream->bytes + stream->cycle_length, stream->bytes, stream->cycle_length);
    free(payload);
    return 1;
}

#endif
