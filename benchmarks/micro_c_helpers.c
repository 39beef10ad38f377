/* Speed of the codec's C helpers, in GB/s (10^9 payload bytes a second), the best of many rounds.
 *
 * From the project's root:
 *
 *     mkdir -p build
 *     cc -O3 -o build/micro_c_helpers benchmarks/micro_c_helpers.c && build/micro_c_helpers [ROUNDS]
 *
 * Add -DFASTWS_NO_AVX2 or -DFASTWS_NO_SIMD to see the paths of other machines. Each figure has
 * memcpy of the same bytes beside it, measured in turn with it, so that a busy machine moves both.
 */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../fastws/_mask.h"
#include "../fastws/_utf8.h"

enum { LARGEST = 1 << 20 };
static int rounds = 60;
static const double ROUND_SECONDS = 0.002;

/* Called through pointers that the compiler cannot see through: no call is hoisted or merged. */
typedef unsigned (*helper)(uint8_t *dst, const uint8_t *src, size_t n);

static unsigned run_memcpy(uint8_t *dst, const uint8_t *src, size_t n)
{
    memcpy(dst, src, n);
    return 0;
}

static unsigned run_mask(uint8_t *dst, const uint8_t *src, size_t n)
{
    fastws_mask(dst, src, n, 0x0BADF00Du, 1);
    return 0;
}

static unsigned run_mask_in_place(uint8_t *dst, const uint8_t *src, size_t n)
{
    (void)src;
    fastws_mask(dst, dst, n, 0x0BADF00Du, 1);
    return 0;
}

static unsigned run_mask_or(uint8_t *dst, const uint8_t *src, size_t n)
{
    return fastws_mask_or(dst, src, n, 0x0BADF00Du, 1);
}

static unsigned run_copy_or(uint8_t *dst, const uint8_t *src, size_t n)
{
    return fastws_copy_or(dst, src, n);
}

static unsigned run_utf8(uint8_t *dst, const uint8_t *src, size_t n)
{
    fastws_utf8 state;
    (void)dst;
    fastws_utf8_reset(&state);
    return (unsigned)fastws_utf8_feed(&state, src, n) | (unsigned)!fastws_utf8_complete(&state);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile unsigned sink;

static double seconds_for(helper run, size_t calls, uint8_t *dst, const uint8_t *src, size_t n)
{
    size_t i;
    const double start = now();
    for (i = 0; i < calls; i++)
        sink = run(dst, src, n);
    return now() - start;
}

static size_t calls_a_round(helper run, uint8_t *dst, const uint8_t *src, size_t n)
{
    size_t calls = 1;
    while (seconds_for(run, calls, dst, src, n) < ROUND_SECONDS)
        calls *= 2;
    return calls;
}

static void compare(const char *name, helper volatile run, uint8_t *dst, const uint8_t *src,
                    size_t n)
{
    helper volatile reference = run_memcpy;
    const size_t run_calls = calls_a_round(run, dst, src, n);
    const size_t reference_calls = calls_a_round(reference, dst, src, n);
    double best = 1e9, reference_best = 1e9;
    int round;
    for (round = 0; round < rounds; round++) {
        const double mine = seconds_for(run, run_calls, dst, src, n) / (double)run_calls;
        const double other =
            seconds_for(reference, reference_calls, dst, src, n) / (double)reference_calls;
        best = mine < best ? mine : best;
        reference_best = other < reference_best ? other : reference_best;
    }
    printf("%-22s %8zu B  %7.2f GB/s  memcpy %7.2f GB/s  ratio %5.2f  %9.1f ns\n", name, n,
           1e-9 * (double)n / best, 1e-9 * (double)n / reference_best, reference_best / best,
           1e9 * best);
}

/* Repeats the sample, cut before the code point that no longer fits: valid at every size. */
static void fill(uint8_t *text, size_t n, const char *sample)
{
    const size_t length = strlen(sample);
    size_t i = 0, rest;
    for (; n - i >= length; i += length)
        memcpy(text + i, sample, length);
    for (rest = n - i; ((uint8_t)sample[rest] & 0xC0u) == 0x80; rest--)
        ;
    memcpy(text + i, sample, rest);
    memset(text + i + rest, ' ', n - i - rest);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        helper run;
    } helpers[] = {
        {"mask", run_mask},       {"mask in place", run_mask_in_place},
        {"mask_or", run_mask_or}, {"copy_or", run_copy_or},
    };
    static const struct {
        const char *name, *text;
    } samples[] = {
        {"utf8 ASCII", "The quick brown fox jumps over the lazy dog; "},
        {"utf8 Latin", "Zw\xC3\xB6lf Boxk\xC3\xA4mpfer jagen Viktor quer \xC3\xBC"
                       "ber den gro\xC3\x9F"
                       "en Sylter Deich, d\xC3\xA9j\xC3\xA0 vu. "},
        {"utf8 Latin/Cyrillic", "Caf\xC3\xA9 \xD0\xB2 "
                                "\xD0\x9C\xD0\xBE\xD1\x81\xD0\xBA\xD0\xB2\xD0\xB5: "
                                "\xD0\xB4\xD0\xBE\xD0\xB1\xD1\x80\xD1\x8B\xD0\xB9 "
                                "day, na\xC3\xAFve "
                                "\xD0\xBC\xD0\xB8\xD1\x80! "},
        {"utf8 CJK", "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C\xE3\x80\x82"
                     "\xE3\x81\x93\xE3\x82\x93\xE3\x81\xAB\xE3\x81\xA1\xE3\x81\xAF"},
        {"utf8 emoji in ASCII", "see you at eight \xF0\x9F\x98\x80 bring the \xF0\x9F\x8E\xB8! "},
    };
    static const size_t sizes[] = {5, 15, 64, 125, 1024, 65536, LARGEST};
    /* 48 and 14: where a large Python object's bytes, and a payload behind its header, lie. */
    uint8_t *const dst = malloc(LARGEST + 64), *const src = malloc(LARGEST + 64);
    size_t h, s;

    if (dst == NULL || src == NULL) {
        fputs("micro_c_helpers: not enough memory for two buffers of 1 MiB\n", stderr);
        return 1;
    }
    if (argc > 1)
        rounds = atoi(argv[1]);
    memset(dst, 'd', LARGEST + 64);
    memset(src, 's', LARGEST + 64);
    for (h = 0; h < sizeof helpers / sizeof helpers[0]; h++)
        for (s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            compare(helpers[h].name, helpers[h].run, dst + 48, src + 14, sizes[s]);
    for (h = 0; h < sizeof samples / sizeof samples[0]; h++)
        for (s = 2; s < sizeof sizes / sizeof sizes[0]; s++) {
            fill(src + 14, sizes[s], samples[h].text);
            if (run_utf8(dst, src + 14, sizes[s]) != 0) {
                fprintf(stderr, "micro_c_helpers: sample %s is not valid\n", samples[h].name);
                return 1;
            }
            compare(samples[h].name, run_utf8, dst + 48, src + 14, sizes[s]);
        }
    free(dst);
    free(src);
    return 0;
}
