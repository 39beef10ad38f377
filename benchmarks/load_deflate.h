/* permessage-deflate (RFC 7692) for the load generator: compressing the messages before the run,
 * inflating the replies during it. Without zlib's headers it is compiled without, and says so when
 * asked for compression. */
#ifndef LOAD_DEFLATE_H
#define LOAD_DEFLATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Dedicated and full keep a context for each connection, shared keeps none. Full is dedicated with
 * the window that RFC 7692 has where none is offered, 2^15. */
enum compression { COMPRESSION_OFF, COMPRESSION_DEDICATED, COMPRESSION_SHARED, COMPRESSION_FULL };

static inline bool keeps_context(enum compression compression) {
    return compression == COMPRESSION_DEDICATED || compression == COMPRESSION_FULL;
}

/* The window that both sides are else offered: fastws's own default, and that of `websockets`. */
#define WINDOW_BITS 12
#define DEFLATE_OFFER_FULL "permessage-deflate"
#define DEFLATE_OFFER \
    DEFLATE_OFFER_FULL "; server_max_window_bits=12; client_max_window_bits=12"
#define DEFLATE_OFFER_SHARED \
    DEFLATE_OFFER "; server_no_context_takeover; client_no_context_takeover"

#ifdef LOAD_ZLIB
#include <zlib.h>

static inline bool deflate_is_there(void) {
    return true;
}

/* A message's compressed payload in fresh memory (RFC 7692 section 7.2.1); NULL without memory.
 * `fresh` starts without reference to the messages before it. */
static inline uint8_t *deflate_message(z_stream *stream, const uint8_t *payload, size_t size,
                                       bool fresh, size_t *length) {
    size_t room = size + size / 1000 + 64;
    uint8_t *out = malloc(room);
    if (out == NULL)
        return NULL;
    if (fresh)
        deflateReset(stream);
    stream->next_in = (Bytef *)(uintptr_t)payload;
    stream->avail_in = (uInt)size;
    stream->next_out = out;
    stream->avail_out = (uInt)room;
    if (deflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_in > 0 || stream->avail_out == 0) {
        free(out);
        return NULL;
    }
    *length = room - stream->avail_out - 4; /* less 00 00 ff ff */
    return out;
}

static inline bool deflate_start(z_stream *stream) {
    memset(stream, 0, sizeof *stream);
    return deflateInit2(stream, 6, Z_DEFLATED, -WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) == Z_OK;
}

/* An inflater in fresh memory, or NULL. */
static inline void *inflater_new(void) {
    z_stream *stream = calloc(1, sizeof *stream);
    if (stream != NULL && inflateInit2(stream, -15) != Z_OK) {
        free(stream);
        return NULL;
    }
    return stream;
}

/* Inflates one whole message, to whose `size` bytes at `in` 4 more may be written. Returns the
 * bytes made, at most `room`; SIZE_MAX when the data is wrong or needs more room. */
static inline size_t inflate_message(void *inflater, bool fresh, uint8_t *in, size_t size,
                                     uint8_t *out, size_t room) {
    static const uint8_t tail[4] = {0, 0, 0xff, 0xff};
    z_stream *stream = inflater;
    memcpy(in + size, tail, sizeof tail);
    if (fresh)
        inflateReset(stream);
    stream->next_in = in;
    stream->avail_in = (uInt)(size + sizeof tail);
    stream->next_out = out;
    stream->avail_out = (uInt)room;
    int result = inflate(stream, Z_SYNC_FLUSH);
    if ((result != Z_OK && result != Z_BUF_ERROR) || stream->avail_in > 0 || stream->avail_out == 0)
        return SIZE_MAX;
    return room - stream->avail_out;
}

#else

static inline bool deflate_is_there(void) {
    return false;
}

static inline void *inflater_new(void) {
    return NULL;
}

static inline size_t inflate_message(void *inflater, bool fresh, uint8_t *in, size_t size,
                                     uint8_t *out, size_t room) {
    (void)inflater, (void)fresh, (void)in, (void)size, (void)out, (void)room;
    return SIZE_MAX;
}

#endif
#endif
