/* The C helpers behind functions that ctypes can call, and the checks too long for a Python loop.
 *
 * A check returns NULL when everything held, or a sentence that names the first case that did not.
 */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS under -std=c99 */
#endif
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1
#endif

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "_mask.h"
#include "_utf8.h"

/* ---- the helpers themselves ------------------------------------------------------------------ */

#define EXPORT __attribute__((visibility("default")))

EXPORT uint32_t t_mask_rotate(uint32_t key, unsigned phase);
EXPORT void t_mask(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key, unsigned phase);
EXPORT unsigned t_mask_or(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key, unsigned phase);
EXPORT unsigned t_copy_or(uint8_t *dst, const uint8_t *src, size_t n);
EXPORT void t_utf8_reset(fastws_utf8 *s);
EXPORT int t_utf8_feed(fastws_utf8 *s, const uint8_t *p, size_t n);
EXPORT int t_utf8_complete(const fastws_utf8 *s);
EXPORT int t_uses_avx2(void);
EXPORT const char *check_masking(size_t first, size_t last, size_t offset_step);
EXPORT const char *check_high_bit_positions(size_t first, size_t last, size_t step);
EXPORT const char *check_guard_pages(size_t last);
EXPORT int touch_guard_page(int after);
EXPORT void classify_three_byte_sequences(uint8_t *verdicts);

uint32_t t_mask_rotate(uint32_t key, unsigned phase)
{
    return fastws_mask_rotate(key, phase);
}

void t_mask(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key, unsigned phase)
{
    fastws_mask(dst, src, n, key, phase);
}

unsigned t_mask_or(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key, unsigned phase)
{
    return fastws_mask_or(dst, src, n, key, phase);
}

unsigned t_copy_or(uint8_t *dst, const uint8_t *src, size_t n)
{
    return fastws_copy_or(dst, src, n);
}

void t_utf8_reset(fastws_utf8 *s)
{
    fastws_utf8_reset(s);
}

int t_utf8_feed(fastws_utf8 *s, const uint8_t *p, size_t n)
{
    return fastws_utf8_feed(s, p, n);
}

int t_utf8_complete(const fastws_utf8 *s)
{
    return fastws_utf8_complete(s);
}

int t_uses_avx2(void)
{
#if defined(FASTWS_AVX2)
    return __builtin_cpu_supports("avx2") != 0;
#else
    return 0;
#endif
}

/* ---- masking against one byte at a time ------------------------------------------------------ */

enum { MARGIN = 64, OFFSETS = 64, LONGEST = 2048, ROOM = MARGIN + OFFSETS + LONGEST + MARGIN };
enum { CANARY = 0xC5 };

static const uint8_t KEY[4] = {0x37, 0xFA, 0x21, 0x3D}; /* RFC 6455 section 5.7 */

static char report[200];

static const char *failed(const char *what, size_t length, size_t offset, unsigned phase)
{
    snprintf(report, sizeof report, "%s: length %zu, offset %zu, phase %u", what, length, offset,
             phase);
    return report;
}

static uint32_t key_in_wire_order(void)
{
    uint32_t key;
    memcpy(&key, KEY, 4);
    return key;
}

static unsigned oracle(uint8_t *dst, const uint8_t *src, size_t n, unsigned phase)
{
    unsigned high = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        dst[i] = (uint8_t)(src[i] ^ KEY[(phase + i) % 4]);
        high |= dst[i] & 0x80u;
    }
    return high != 0;
}

static unsigned any_high(const uint8_t *p, size_t n)
{
    unsigned high = 0;
    size_t i;
    for (i = 0; i < n; i++)
        high |= p[i] & 0x80u;
    return high != 0;
}

/* A fixed sequence, so that a failure comes back. ascii: what comes out unmasked is ASCII. */
static void fill(uint8_t *p, size_t n, uint32_t seed, int ascii, unsigned phase)
{
    size_t i;
    for (i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (uint8_t)(seed >> 24);
        if (ascii)
            p[i] = (uint8_t)((p[i] & 0x7Fu) ^ KEY[(phase + i) % 4]);
    }
}

static int canaries_live(const uint8_t *room, size_t start, size_t n)
{
    static uint8_t canaries[ROOM];
    if (canaries[0] != CANARY)
        memset(canaries, CANARY, ROOM);
    return memcmp(room, canaries, start) == 0 &&
           memcmp(room + start + n, canaries, ROOM - start - n) == 0;
}

enum operation { MASK, MASK_OR, COPY_OR };
static const char *const OPERATION_NAMES[] = {"mask", "mask_or", "copy_or"};

static const char *check_one(enum operation operation, int in_place, size_t n, size_t offset,
                             unsigned phase, int ascii)
{
    static uint8_t source_room[ROOM], result_room[ROOM], expected[LONGEST];
    /* The two buffers are aligned differently. */
    uint8_t *const source = source_room + MARGIN + (offset * 5 + 3) % OFFSETS;
    const size_t start = MARGIN + offset;
    uint8_t *const result = result_room + start;
    const uint32_t key = key_in_wire_order();
    unsigned expected_high, high = 0;

    fill(source, n, (uint32_t)(n * 64 + offset), ascii, operation == COPY_OR ? 0 : phase);
    if (operation == COPY_OR) {
        memcpy(expected, source, n);
        expected_high = any_high(source, n);
    } else {
        expected_high = oracle(expected, source, n, phase);
    }
    memset(result_room, CANARY, ROOM);
    if (in_place)
        memcpy(result, source, n);
    switch (operation) {
    case MASK:
        fastws_mask(result, in_place ? result : source, n, key, phase);
        high = expected_high;
        break;
    case MASK_OR:
        high = fastws_mask_or(result, in_place ? result : source, n, key, phase);
        break;
    case COPY_OR:
        high = fastws_copy_or(result, in_place ? result : source, n);
        break;
    }
    if (memcmp(result, expected, n) != 0)
        return failed(OPERATION_NAMES[operation], n, offset, phase);
    if ((high != 0) != expected_high)
        return failed("high bit of the result", n, offset, phase);
    if (!canaries_live(result_room, start, n))
        return failed("a byte outside the destination was written", n, offset, phase);
    return NULL;
}

/* Every length from first to last, at every offset_step-th offset below 64, in every phase. */
const char *check_masking(size_t first, size_t last, size_t offset_step)
{
    size_t n, offset;
    unsigned phase;
    int variant;
    if (last > LONGEST)
        return "check_masking: last is beyond the buffers";
    for (n = first; n <= last; n++)
        for (offset = 0; offset < OFFSETS; offset += offset_step)
            for (phase = 0; phase < 4; phase++)
                for (variant = 0; variant < 12; variant++) {
                    const char *fault = check_one((enum operation)(variant % 3), variant % 2, n,
                                                  offset, phase, variant < 6);
                    if (fault != NULL)
                        return fault;
                }
    return NULL;
}

/* One byte that is not ASCII is noticed wherever it stands, at every step-th length. */
const char *check_high_bit_positions(size_t first, size_t last, size_t step)
{
    static uint8_t source[LONGEST], result[LONGEST];
    size_t n, at;
    unsigned phase;
    if (last > LONGEST)
        return "check_high_bit_positions: last is beyond the buffers";
    for (n = first; n <= last; n += step)
        for (phase = 0; phase < 4; phase++) {
            fill(source, n, (uint32_t)n, 1, phase);
            for (at = 0; at < n; at++) {
                source[at] ^= 0x80;
                if (fastws_mask_or(result, source, n, key_in_wire_order(), phase) == 0)
                    return failed("mask_or missed a high bit", n, at, phase);
                if (fastws_copy_or(source, result, n) == 0)
                    return failed("copy_or missed a high bit", n, at, phase);
                fastws_mask(source, result, n, key_in_wire_order(), phase);
                source[at] ^= 0x80;
            }
        }
    return NULL;
}

/* ---- buffers that end at, or begin after, a page nobody may touch ---------------------------- */

typedef struct {
    uint8_t *first, *end; /* of the accessible page */
} guarded;

static int make_guarded(guarded *g)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *pages =
        mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return -1;
    if (mprotect(pages, page, PROT_NONE) != 0 || mprotect(pages + 2 * page, page, PROT_NONE) != 0)
        return -1;
    g->first = pages + page;
    g->end = pages + 2 * page;
    return 0;
}

static const char *check_guarded_masking(const guarded *from, const guarded *to, size_t n)
{
    static uint8_t expected[LONGEST];
    const uint32_t key = key_in_wire_order();
    unsigned phase;
    int place;
    for (phase = 0; phase < 4; phase++)
        for (place = 0; place < 4; place++) {
            uint8_t *const source = place & 1 ? from->first : from->end - n;
            uint8_t *const result = place & 2 ? to->first : to->end - n;
            fill(source, n, (uint32_t)n, 0, phase);
            oracle(expected, source, n, phase);
            fastws_mask(result, source, n, key, phase);
            if (memcmp(result, expected, n) != 0)
                return failed("mask beside a guard page", n, (size_t)place, phase);
            memset(result, 0, n);
            fastws_mask_or(result, source, n, key, phase);
            if (memcmp(result, expected, n) != 0)
                return failed("mask_or beside a guard page", n, (size_t)place, phase);
            fastws_copy_or(result, source, n);
            if (memcmp(result, source, n) != 0)
                return failed("copy_or beside a guard page", n, (size_t)place, phase);
            fastws_mask_or(result, result, n, key, phase);
            if (memcmp(result, expected, n) != 0)
                return failed("in place beside a guard page", n, (size_t)place, phase);
        }
    return NULL;
}

static const char *check_guarded_utf8(const guarded *from, size_t n)
{
    /* Valid at whatever length they are cut, with a code point over the last bytes or without. */
    static const char *const SAMPLES[] = {"plain", "\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80x"};
    size_t sample, i;
    int place;
    for (sample = 0; sample < sizeof SAMPLES / sizeof SAMPLES[0]; sample++)
        for (place = 0; place < 2; place++) {
            uint8_t *const text = place ? from->first : from->end - n;
            fastws_utf8 state;
            fastws_utf8_reset(&state);
            for (i = 0; i < n; i++)
                text[i] = (uint8_t)SAMPLES[sample][i % strlen(SAMPLES[sample])];
            if (fastws_utf8_feed(&state, text, n) != 0)
                return failed("valid text beside a guard page", n, (size_t)place, (unsigned)sample);
        }
    return NULL;
}

const char *check_guard_pages(size_t last)
{
    guarded from, to;
    size_t n;
    if (make_guarded(&from) != 0 || make_guarded(&to) != 0)
        return "mmap or mprotect failed";
    if (last > LONGEST || last > (size_t)(from.end - from.first))
        return "check_guard_pages: last is beyond the buffers";
    for (n = 0; n <= last; n++) {
        const char *fault = check_guarded_masking(&from, &to, n);
        if (fault == NULL)
            fault = check_guarded_utf8(&from, n);
        if (fault != NULL)
            return fault;
    }
    return NULL;
}

/* Must end the process: shows that check_guard_pages would notice. */
int touch_guard_page(int after)
{
    guarded g;
    if (make_guarded(&g) != 0)
        return -1;
    return *(volatile uint8_t *)(after ? g.end : g.first - 1);
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* verdicts[a << 16 | b << 8 | c], 2^24 of them: 1 to 3 is the byte, counted from one, whose call
 * failed when a, b and c came one at a time; otherwise 0 for complete, 4 for a code point begun.
 * 0xFF: the three bytes in one call were judged differently. */
void classify_three_byte_sequences(uint8_t *verdicts)
{
    uint32_t sequence;
    for (sequence = 0; sequence < UINT32_C(1) << 24; sequence++) {
        const uint8_t bytes[3] = {(uint8_t)(sequence >> 16), (uint8_t)(sequence >> 8),
                                  (uint8_t)sequence};
        fastws_utf8 single, whole;
        uint8_t verdict = 0, i;
        int whole_result;
        fastws_utf8_reset(&single);
        fastws_utf8_reset(&whole);
        for (i = 0; i < 3 && verdict == 0; i++)
            if (fastws_utf8_feed(&single, bytes + i, 1) != 0)
                verdict = (uint8_t)(i + 1);
        whole_result = fastws_utf8_feed(&whole, bytes, 3);
        if (whole_result != (verdict == 0 ? 0 : -1) ||
            fastws_utf8_complete(&whole) != fastws_utf8_complete(&single))
            verdict = 0xFF;
        else if (verdict == 0 && !fastws_utf8_complete(&single))
            verdict = 4;
        verdicts[sequence] = verdict;
    }
}
