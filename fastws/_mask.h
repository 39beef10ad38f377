/* Payload masking (RFC 6455 section 5.3), fused with the test for bytes that are not ASCII.
 *
 * The caller owns both buffers. dst may equal src (in place) or must not overlap it at all. No byte
 * outside [dst, dst + n) is written and none outside [src, src + n) is read, so a buffer may start
 * or end next to an unmapped page. With n == 0 no pointer is used.
 *
 * A key is the four masking-key bytes in wire order, as memcpy'd into a uint32_t; its numeric value
 * therefore depends on the machine, its bytes in memory do not. A phase, 0 to 3, names the key byte
 * that applies to src[0]: for a payload that arrives in pieces it is the number of payload bytes
 * handled before, modulo 4.
 *
 * FASTWS_NO_SIMD and FASTWS_NO_AVX2 leave out the paths they name, so that the tests can reach
 * every path on one machine.
 */
#ifndef FASTWS_MASK_H
#define FASTWS_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(FASTWS_NO_SIMD)
#if defined(__SSE2__) || defined(_M_X64)
#define FASTWS_SSE2 1
#include <emmintrin.h>
/* MSVC has no target attributes, and clang in its guise lacks what __builtin_cpu_supports reads. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(_MSC_VER) && !defined(FASTWS_NO_AVX2)
#define FASTWS_AVX2 1
#include <immintrin.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define FASTWS_NEON 1
#include <arm_neon.h>
#endif
#endif

/* The kernel below is one function for three callers; only inlined into each does it lose the work
 * that the caller has no use for. */
#if defined(_MSC_VER) && !defined(__clang__)
#define FASTWS_ALWAYS_INLINE static __forceinline
#else
#define FASTWS_ALWAYS_INLINE static inline __attribute__((always_inline))
#endif

/* ---- sixteen bytes at a time ---------------------------------------------------------------- */

#if defined(FASTWS_SSE2)

typedef __m128i fastws_vec;

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

FASTWS_ALWAYS_INLINE void fastws_vec_store(uint8_t *p, fastws_vec v)
{
    _mm_storeu_si128((__m128i *)(void *)p, v);
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_repeat(uint32_t key)
{
    return _mm_set1_epi32((int)key);
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_xor(fastws_vec a, fastws_vec b)
{
    return _mm_xor_si128(a, b);
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_or(fastws_vec a, fastws_vec b)
{
    return _mm_or_si128(a, b);
}

FASTWS_ALWAYS_INLINE unsigned fastws_vec_high(fastws_vec v)
{
    return (unsigned)_mm_movemask_epi8(v);
}

#elif defined(FASTWS_NEON)

typedef uint8x16_t fastws_vec;

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_load(const uint8_t *p)
{
    return vld1q_u8(p);
}

FASTWS_ALWAYS_INLINE void fastws_vec_store(uint8_t *p, fastws_vec v)
{
    vst1q_u8(p, v);
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_repeat(uint32_t key)
{
    return vreinterpretq_u8_u32(vdupq_n_u32(key));
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_xor(fastws_vec a, fastws_vec b)
{
    return veorq_u8(a, b);
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_or(fastws_vec a, fastws_vec b)
{
    return vorrq_u8(a, b);
}

FASTWS_ALWAYS_INLINE unsigned fastws_vec_high(fastws_vec v)
{
    return vmaxvq_u8(v) & 0x80u;
}

#else

typedef struct {
    uint64_t first, second;
} fastws_vec;

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_load(const uint8_t *p)
{
    fastws_vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

FASTWS_ALWAYS_INLINE void fastws_vec_store(uint8_t *p, fastws_vec v)
{
    memcpy(p, &v, sizeof v);
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_repeat(uint32_t key)
{
    fastws_vec v;
    v.first = v.second = (uint64_t)key << 32 | key;
    return v;
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_xor(fastws_vec a, fastws_vec b)
{
    a.first ^= b.first;
    a.second ^= b.second;
    return a;
}

FASTWS_ALWAYS_INLINE fastws_vec fastws_vec_or(fastws_vec a, fastws_vec b)
{
    a.first |= b.first;
    a.second |= b.second;
    return a;
}

FASTWS_ALWAYS_INLINE unsigned fastws_vec_high(fastws_vec v)
{
    return ((v.first | v.second) & UINT64_C(0x8080808080808080)) != 0;
}

#endif

/* ---- the kernel ------------------------------------------------------------------------------ */

/* The key in which byte 0 is the given key's byte `phase`. */
static inline uint32_t fastws_mask_rotate(uint32_t key, unsigned phase)
{
    const uint64_t twice = (uint64_t)key << 32 | key;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint32_t)(twice >> (32 - 8 * (phase & 3u)));
#else
    return (uint32_t)(twice >> (8 * (phase & 3u)));
#endif
}

/* Fewer than sixteen bytes, key at phase 0. Two words that overlap in the middle cover every length
 * without a loop; both are loaded before either is stored, so that in place works. */
FASTWS_ALWAYS_INLINE unsigned fastws_mask_short(uint8_t *dst, const uint8_t *src, size_t n,
                                                uint32_t key)
{
    if (n >= 8) {
        const uint64_t head_key = (uint64_t)key << 32 | key;
        const uint32_t last_key = fastws_mask_rotate(key, (unsigned)(n & 3u));
        const uint64_t tail_key = (uint64_t)last_key << 32 | last_key;
        uint64_t head, tail;
        memcpy(&head, src, 8);
        memcpy(&tail, src + n - 8, 8);
        head ^= head_key;
        tail ^= tail_key;
        memcpy(dst, &head, 8);
        memcpy(dst + n - 8, &tail, 8);
        return ((head | tail) & UINT64_C(0x8080808080808080)) != 0;
    }
    if (n >= 4) {
        uint32_t head, tail;
        memcpy(&head, src, 4);
        memcpy(&tail, src + n - 4, 4);
        head ^= key;
        tail ^= fastws_mask_rotate(key, (unsigned)(n & 3u));
        memcpy(dst, &head, 4);
        memcpy(dst + n - 4, &tail, 4);
        return ((head | tail) & UINT32_C(0x80808080)) != 0;
    }
    if (n > 0) {
        uint8_t bytes[4];
        unsigned seen = 0;
        size_t i;
        memcpy(bytes, &key, 4);
        for (i = 0; i < n; i++) {
            const unsigned plain = (unsigned)src[i] ^ bytes[i];
            dst[i] = (uint8_t)plain;
            seen |= plain;
        }
        return seen & 0x80u;
    }
    return 0;
}

#if defined(FASTWS_AVX2)

/* From here on the wider registers repay the call and the test of the processor with a margin;
 * below, they win a nanosecond or lose one (benchmarks/micro_c_helpers.c). */
enum { FASTWS_AVX2_FROM = 512 };

/* n is a multiple of 128. Not inline: a function for one instruction set cannot be inlined into one
 * for another. Returns non-zero iff an unmasked byte is >= 0x80. */
__attribute__((target("avx2"), unused)) static unsigned
fastws_mask_avx2(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key)
{
    const __m256i mask = _mm256_set1_epi32((int)key);
    __m256i seen = _mm256_setzero_si256();
    size_t i;
    for (i = 0; i < n; i += 128) {
        const __m256i *from = (const __m256i *)(const void *)(src + i);
        __m256i *to = (__m256i *)(void *)(dst + i);
        const __m256i a = _mm256_xor_si256(_mm256_loadu_si256(from), mask);
        const __m256i b = _mm256_xor_si256(_mm256_loadu_si256(from + 1), mask);
        const __m256i c = _mm256_xor_si256(_mm256_loadu_si256(from + 2), mask);
        const __m256i d = _mm256_xor_si256(_mm256_loadu_si256(from + 3), mask);
        _mm256_storeu_si256(to, a);
        _mm256_storeu_si256(to + 1, b);
        _mm256_storeu_si256(to + 2, c);
        _mm256_storeu_si256(to + 3, d);
        seen = _mm256_or_si256(
            seen, _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)));
    }
    return (unsigned)_mm256_movemask_epi8(seen);
}

#endif

/* key at phase 0; returns non-zero iff an unmasked byte is >= 0x80. */
FASTWS_ALWAYS_INLINE unsigned fastws_mask_kernel(uint8_t *dst, const uint8_t *src, size_t n,
                                                 uint32_t key)
{
    unsigned high = 0;
    size_t i = 0;
    fastws_vec mask, tail, seen;

    if (n < 16)
        return fastws_mask_short(dst, src, n, key);

#if defined(FASTWS_AVX2)
    if (n >= FASTWS_AVX2_FROM && __builtin_cpu_supports("avx2")) {
        const size_t front = n & ~(size_t)127;
        high = fastws_mask_avx2(dst, src, front, key);
        dst += front;
        src += front;
        n -= front;
        if (n < 16)
            return high | fastws_mask_short(dst, src, n, key);
    }
#endif

    /* The last sixteen bytes overlap what the loops store: in place they must be read first. */
    tail = fastws_vec_load(src + n - 16);
    tail = fastws_vec_xor(tail, fastws_vec_repeat(fastws_mask_rotate(key, (unsigned)(n & 3u))));
    mask = fastws_vec_repeat(key);
    seen = tail;
    for (; n - i >= 64; i += 64) {
        const fastws_vec a = fastws_vec_xor(fastws_vec_load(src + i), mask);
        const fastws_vec b = fastws_vec_xor(fastws_vec_load(src + i + 16), mask);
        const fastws_vec c = fastws_vec_xor(fastws_vec_load(src + i + 32), mask);
        const fastws_vec d = fastws_vec_xor(fastws_vec_load(src + i + 48), mask);
        fastws_vec_store(dst + i, a);
        fastws_vec_store(dst + i + 16, b);
        fastws_vec_store(dst + i + 32, c);
        fastws_vec_store(dst + i + 48, d);
        seen = fastws_vec_or(seen, fastws_vec_or(fastws_vec_or(a, b), fastws_vec_or(c, d)));
    }
    for (; n - i >= 16; i += 16) {
        const fastws_vec a = fastws_vec_xor(fastws_vec_load(src + i), mask);
        fastws_vec_store(dst + i, a);
        seen = fastws_vec_or(seen, a);
    }
    fastws_vec_store(dst + n - 16, tail);
    return high | fastws_vec_high(seen);
}

/* ---- what the codec calls -------------------------------------------------------------------- */

/* Masks or unmasks n bytes: the operation is its own inverse. */
static inline void fastws_mask(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key,
                               unsigned phase)
{
    (void)fastws_mask_kernel(dst, src, n, fastws_mask_rotate(key, phase));
}

/* The same; returns non-zero iff some byte of the result is >= 0x80, that is, not ASCII. */
static inline unsigned fastws_mask_or(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key,
                                      unsigned phase)
{
    return fastws_mask_kernel(dst, src, n, fastws_mask_rotate(key, phase));
}

/* Copies n bytes of an unmasked payload; the return value is that of fastws_mask_or. */
static inline unsigned fastws_copy_or(uint8_t *dst, const uint8_t *src, size_t n)
{
    return fastws_mask_kernel(dst, src, n, 0);
}

#endif
