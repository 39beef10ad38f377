/* What is counted begins with start() and ends with stop(), called from the counted process. Outside
 * of valgrind both do nothing. */
#include <valgrind/callgrind.h>

void start(void) {
    CALLGRIND_ZERO_STATS;
}

void stop(const char *name) {
    CALLGRIND_DUMP_STATS_AT(name);
}
