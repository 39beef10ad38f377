/* Latency histogram of the load generator: logarithmic buckets of nanoseconds, each under 0.8 %
 * wide, so that a percentile costs a fixed 58 KB however many messages a run sends. */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>
#include <string.h>

/* Every power of two is cut into 2^7 buckets. */
#define HISTOGRAM_BITS 7
#define HISTOGRAM_STEP (1u << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) * HISTOGRAM_STEP)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t maximum; /* ns, exact */
};

static inline void histogram_clear(struct histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
}

static inline void histogram_add(struct histogram *histogram, uint64_t nanoseconds) {
    uint64_t index = nanoseconds;
    if (nanoseconds >= HISTOGRAM_STEP) {
        unsigned shift = 63u - (unsigned)__builtin_clzll(nanoseconds) - HISTOGRAM_BITS;
        index = (uint64_t)shift * HISTOGRAM_STEP + (nanoseconds >> shift);
    }
    histogram->counts[index]++;
    histogram->total++;
    if (nanoseconds > histogram->maximum)
        histogram->maximum = nanoseconds;
}

/* The middle, in ns, of the bucket below or in which `share` (0 to 1) of all samples lie. */
static inline uint64_t histogram_percentile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)((double)histogram->total * share);
    uint64_t seen = 0;
    for (uint64_t index = 0; index < HISTOGRAM_BUCKETS; index++) {
        seen += histogram->counts[index];
        if (seen > wanted) {
            if (index < 2 * HISTOGRAM_STEP)
                return index;
            unsigned shift = (unsigned)(index / HISTOGRAM_STEP) - 1;
            uint64_t lowest = (index - (uint64_t)shift * HISTOGRAM_STEP) << shift;
            uint64_t middle = lowest + ((uint64_t)1 << shift) / 2;
            return middle < histogram->maximum ? middle : histogram->maximum;
        }
    }
    return histogram->maximum;
}

#endif
