/* Incremental UTF-8 validation (RFC 3629; RFC 6455 section 8.1).
 *
 * A fault is reported by the call that brings the first byte after which no continuation could make
 * the text valid. From then on the state is spent: every later call fails too, until it is reset.
 */
#ifndef FASTWS_UTF8_H
#define FASTWS_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* due: continuation bytes still to come, 0 to 3. low, high: the range allowed for the next of them
 * (the second byte of a code point is where RFC 3629 section 4 excludes overlong forms, surrogates
 * and what lies above U+10FFFF); without meaning while due is 0. An empty range marks a fault.
 * Memory set to zero is a reset state. */
typedef struct {
    uint8_t due;
    uint8_t low;
    uint8_t high;
} fastws_utf8;

/* Between code points the text is checked by an automaton whose states are shift counts: entry
 * `byte` of the table is a word that holds, six bits wide and at each state's own position, the
 * state that follows. One load and one shift a byte, and no branch for the text to mislead. A
 * transition that is not listed reads as zero, the invalid state, which none leaves. */
enum {
    FASTWS_UTF8_INVALID = 0,
    FASTWS_UTF8_COMPLETE = 6,
    FASTWS_UTF8_ONE_DUE = 12,
    FASTWS_UTF8_TWO_DUE = 18,
    FASTWS_UTF8_THREE_DUE = 24,
    FASTWS_UTF8_AFTER_E0 = 30,
    FASTWS_UTF8_AFTER_ED = 36,
    FASTWS_UTF8_AFTER_F0 = 42,
    FASTWS_UTF8_AFTER_F4 = 48
};

#define FASTWS_UTF8_GO(from, to) ((uint64_t)FASTWS_UTF8_##to << FASTWS_UTF8_##from)
#define FASTWS_UTF8_TAIL                                                                           \
    (FASTWS_UTF8_GO(ONE_DUE, COMPLETE) | FASTWS_UTF8_GO(TWO_DUE, ONE_DUE) |                        \
     FASTWS_UTF8_GO(THREE_DUE, TWO_DUE))
#define FASTWS_UTF8_ASCII FASTWS_UTF8_GO(COMPLETE, COMPLETE)
#define FASTWS_UTF8_80_8F                                                                          \
    (FASTWS_UTF8_TAIL | FASTWS_UTF8_GO(AFTER_ED, ONE_DUE) | FASTWS_UTF8_GO(AFTER_F4, TWO_DUE))
#define FASTWS_UTF8_90_9F                                                                          \
    (FASTWS_UTF8_TAIL | FASTWS_UTF8_GO(AFTER_ED, ONE_DUE) | FASTWS_UTF8_GO(AFTER_F0, TWO_DUE))
#define FASTWS_UTF8_A0_BF                                                                          \
    (FASTWS_UTF8_TAIL | FASTWS_UTF8_GO(AFTER_E0, ONE_DUE) | FASTWS_UTF8_GO(AFTER_F0, TWO_DUE))
#define FASTWS_UTF8_LEAD(state) FASTWS_UTF8_GO(COMPLETE, state)

#define FASTWS_UTF8_X4(row) row, row, row, row
#define FASTWS_UTF8_X16(row)                                                                       \
    FASTWS_UTF8_X4(row), FASTWS_UTF8_X4(row), FASTWS_UTF8_X4(row), FASTWS_UTF8_X4(row)

static const uint64_t fastws_utf8_table[256] = {
    /* 00-7F */
    FASTWS_UTF8_X16(FASTWS_UTF8_ASCII), FASTWS_UTF8_X16(FASTWS_UTF8_ASCII),
    FASTWS_UTF8_X16(FASTWS_UTF8_ASCII), FASTWS_UTF8_X16(FASTWS_UTF8_ASCII),
    FASTWS_UTF8_X16(FASTWS_UTF8_ASCII), FASTWS_UTF8_X16(FASTWS_UTF8_ASCII),
    FASTWS_UTF8_X16(FASTWS_UTF8_ASCII), FASTWS_UTF8_X16(FASTWS_UTF8_ASCII),
    /* 80-BF */
    FASTWS_UTF8_X16(FASTWS_UTF8_80_8F), FASTWS_UTF8_X16(FASTWS_UTF8_90_9F),
    FASTWS_UTF8_X16(FASTWS_UTF8_A0_BF), FASTWS_UTF8_X16(FASTWS_UTF8_A0_BF),
    /* C0-DF: C0 and C1 could only start overlong forms */
    0, 0, FASTWS_UTF8_LEAD(ONE_DUE), FASTWS_UTF8_LEAD(ONE_DUE),
    FASTWS_UTF8_X4(FASTWS_UTF8_LEAD(ONE_DUE)), FASTWS_UTF8_X4(FASTWS_UTF8_LEAD(ONE_DUE)),
    FASTWS_UTF8_X4(FASTWS_UTF8_LEAD(ONE_DUE)), FASTWS_UTF8_X16(FASTWS_UTF8_LEAD(ONE_DUE)),
    /* E0-EF */
    FASTWS_UTF8_LEAD(AFTER_E0), FASTWS_UTF8_LEAD(TWO_DUE), FASTWS_UTF8_LEAD(TWO_DUE),
    FASTWS_UTF8_LEAD(TWO_DUE), FASTWS_UTF8_X4(FASTWS_UTF8_LEAD(TWO_DUE)),
    FASTWS_UTF8_X4(FASTWS_UTF8_LEAD(TWO_DUE)), FASTWS_UTF8_LEAD(TWO_DUE),
    FASTWS_UTF8_LEAD(AFTER_ED), FASTWS_UTF8_LEAD(TWO_DUE), FASTWS_UTF8_LEAD(TWO_DUE),
    /* F0-FF: F5 and above could only start what lies above U+10FFFF */
    FASTWS_UTF8_LEAD(AFTER_F0), FASTWS_UTF8_LEAD(THREE_DUE), FASTWS_UTF8_LEAD(THREE_DUE),
    FASTWS_UTF8_LEAD(THREE_DUE), FASTWS_UTF8_LEAD(AFTER_F4), 0, 0, 0,
    FASTWS_UTF8_X4(0), FASTWS_UTF8_X4(0)};

/* What each state of the automaton is between two calls. */
static const fastws_utf8 fastws_utf8_between[] = {
    {1, 0xFF, 0x00}, /* INVALID */
    {0, 0x00, 0x00}, /* COMPLETE */
    {1, 0x80, 0xBF}, /* ONE_DUE */
    {2, 0x80, 0xBF}, /* TWO_DUE */
    {3, 0x80, 0xBF}, /* THREE_DUE */
    {2, 0xA0, 0xBF}, /* AFTER_E0 */
    {2, 0x80, 0x9F}, /* AFTER_ED */
    {3, 0x90, 0xBF}, /* AFTER_F0 */
    {3, 0x80, 0x8F}, /* AFTER_F4 */
};

#undef FASTWS_UTF8_GO
#undef FASTWS_UTF8_TAIL
#undef FASTWS_UTF8_ASCII
#undef FASTWS_UTF8_80_8F
#undef FASTWS_UTF8_90_9F
#undef FASTWS_UTF8_A0_BF
#undef FASTWS_UTF8_LEAD
#undef FASTWS_UTF8_X4
#undef FASTWS_UTF8_X16

/* Non-zero iff one of the 8 bytes at p is >= 0x80. */
static inline uint64_t fastws_utf8_high8(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word & UINT64_C(0x8080808080808080);
}

/* The state after one more byte; only the low six bits of a state count. */
static inline uint64_t fastws_utf8_next(uint64_t state, uint8_t byte)
{
    return fastws_utf8_table[byte] >> (state & 63u);
}

/* How many of the n bytes at p may be passed over in blocks because they are ASCII. */
static inline size_t fastws_utf8_skip(const uint8_t *p, size_t n)
{
    size_t i = 0;
    for (; n - i >= 64; i += 64) {
        const uint8_t *at = p + i;
        if (fastws_utf8_high8(at) | fastws_utf8_high8(at + 8) | fastws_utf8_high8(at + 16) |
            fastws_utf8_high8(at + 24) | fastws_utf8_high8(at + 32) | fastws_utf8_high8(at + 40) |
            fastws_utf8_high8(at + 48) | fastws_utf8_high8(at + 56))
            break;
    }
    while (n - i >= 8 && !fastws_utf8_high8(p + i))
        i += 8;
    return i;
}

static inline void fastws_utf8_reset(fastws_utf8 *s)
{
    s->due = s->low = s->high = 0;
}

/* Returns 0 while the text can still be valid, -1 as soon as it cannot. */
static inline int fastws_utf8_feed(fastws_utf8 *s, const uint8_t *p, size_t n)
{
    uint64_t state = FASTWS_UTF8_COMPLETE;
    size_t i = 0;

    if (s->low > s->high)
        return -1;
    while (s->due > 0) {
        if (i == n)
            return 0;
        if (p[i] < s->low || p[i] > s->high) {
            *s = fastws_utf8_between[FASTWS_UTF8_INVALID];
            return -1;
        }
        i++;
        s->due--;
        s->low = 0x80;
        s->high = 0xBF;
    }

    while (n - i >= 16) {
        const uint8_t *at = p + i;
        if ((state & 63u) == FASTWS_UTF8_COMPLETE && !fastws_utf8_high8(at)) {
            i += fastws_utf8_skip(at, n - i);
            continue;
        }
        state = fastws_utf8_next(state, at[0]);
        state = fastws_utf8_next(state, at[1]);
        state = fastws_utf8_next(state, at[2]);
        state = fastws_utf8_next(state, at[3]);
        state = fastws_utf8_next(state, at[4]);
        state = fastws_utf8_next(state, at[5]);
        state = fastws_utf8_next(state, at[6]);
        state = fastws_utf8_next(state, at[7]);
        state = fastws_utf8_next(state, at[8]);
        state = fastws_utf8_next(state, at[9]);
        state = fastws_utf8_next(state, at[10]);
        state = fastws_utf8_next(state, at[11]);
        state = fastws_utf8_next(state, at[12]);
        state = fastws_utf8_next(state, at[13]);
        state = fastws_utf8_next(state, at[14]);
        state = fastws_utf8_next(state, at[15]);
        i += 16;
        if ((state & 63u) == FASTWS_UTF8_INVALID) {
            *s = fastws_utf8_between[FASTWS_UTF8_INVALID];
            return -1;
        }
    }
    for (; i < n; i++)
        state = fastws_utf8_next(state, p[i]);

    *s = fastws_utf8_between[(state & 63u) / 6];
    return (state & 63u) == FASTWS_UTF8_INVALID ? -1 : 0;
}

/* 1 iff the text so far does not end inside a code point. */
static inline int fastws_utf8_complete(const fastws_utf8 *s)
{
    return s->due == 0;
}

#endif
