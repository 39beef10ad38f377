/* Load generator: one thread, epoll, a closed loop of N messages in flight on each connection.
 * `load --help` lists its options.
 *
 * The result is one JSON line on stdout. With --server-pid it holds the server's own CPU time, read
 * by this process at the very moments the measured window begins and ends, so that neither start-up
 * nor warm-up nor another process's wake-up is counted. */
#include "load_connection.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
/* Nothing heard from the server for this long, while something is due, is a failure. */
#define SILENCE_LIMIT (10 * SECOND)
/* For the server to answer our closing handshakes, once the figures are there. */
#define CLOSING_LIMIT (2 * SECOND)
#define SUBSCRIBING (SECOND / 5)
#define EVENTS 512

struct load load;

static struct connection *connections;
static struct settings settings;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time) < 0)
        fail("clock_gettime: %s", strerror(errno));
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

void fail(const char *format, ...) {
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "load: %s\n", sentence);
    /* The sentence may quote the server: keep the JSON line well-formed whatever it said. */
    for (char *c = sentence; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '\'';
    printf("{\"errors\": 1, \"error\": \"%s\"}\n", sentence);
    exit(1);
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)settings.connections + 16;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_max < wanted)
        fail("%u connections need %llu descriptors, but the hard limit (ulimit -Hn) is %llu",
             settings.connections, (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        fail("setrlimit: %s", strerror(errno));
}

/* ---- phases ---- */

/* One round of events. Returns true when stdin, which only idle mode watches, has something. */
static bool poll_events(int timeout_ms) {
    struct epoll_event events[EVENTS];
    bool stdin_ready = false;
    int ready = epoll_wait(load.epoll, events, EVENTS, timeout_ms);
    if (ready < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        if (events[i].data.ptr == NULL)
            stdin_ready = true;
        else
            connection_event(events[i].data.ptr, events[i].events);
    }
    return stdin_ready;
}

static void fail_if_silent(const char *missing) {
    if (now_ns() - load.last_progress > SILENCE_LIMIT)
        fail("the server was silent for %llu s while %s", SILENCE_LIMIT / SECOND, missing);
}

static void open_connections(void) {
    uint32_t started = 0;
    connections = calloc(settings.connections, sizeof *connections);
    if (connections == NULL)
        fail("no memory for %u connections", settings.connections);
    if (load.activity == FANOUT) {
        load.publisher = &connections[settings.connections - 1];
        load.publisher->publishes = true;
    }
    /* A handshake that is done begins anew only when the load is on. */
    load.refill = load.activity == HANDSHAKES;
    load.last_progress = now_ns();
    while (load.open < settings.connections) {
        while (started < settings.connections && started - load.open < settings.ramp)
            connection_start(&connections[started++]);
        poll_events(100);
        fail_if_silent("connections were opening");
    }
}

static void run_until(uint64_t deadline) {
    for (;;) {
        uint64_t now = now_ns();
        if (now >= deadline)
            return;
        uint64_t left_ms = (deadline - now) / 1000000 + 1;
        poll_events(left_ms > 100 ? 100 : (int)left_ms);
        fail_if_silent("replies were due");
    }
}

static void send_on_all(uint32_t count) {
    load.last_progress = now_ns();
    for (uint32_t i = 0; i < settings.connections; i++)
        connection_send(&connections[i], count);
}

static void await_replies(void) {
    load.refill = false;
    while (load.outstanding > 0) {
        poll_events(100);
        fail_if_silent("replies were due");
    }
}

/* Returns how many connections the server has left open in spite of our closing handshake. The
 * figures are complete by then, so that this is for the report, not an error. */
static uint32_t close_connections(void) {
    uint64_t deadline = now_ns() + CLOSING_LIMIT;
    load.refill = false;
    /* Handshakes under way end by themselves. */
    for (uint32_t i = 0; i < settings.connections; i++)
        if (connections[i].state == OPEN && load.activity != HANDSHAKES)
            connection_close(&connections[i]);
    while (load.closed < settings.connections && now_ns() < deadline)
        poll_events(100);
    return settings.connections - load.closed;
}

/* CPU time of every thread of the server, exact to the call (/proc/PID/schedstat lags by up to a
 * scheduler tick). */
static uint64_t server_cpu_ns(void) {
    clockid_t clock;
    int error = clock_getcpuclockid(settings.server_pid, &clock);
    if (error != 0)
        fail("--server-pid %d: %s", (int)settings.server_pid, strerror(error));
    return clock_ns(clock);
}

/* ns that the server's main thread was ready to run while its core ran something else; 0 where the
 * kernel does not say. */
static uint64_t server_wait_ns(void) {
    char path[64];
    unsigned long long ran = 0, waited = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)settings.server_pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    fclose(file);
    return waited;
}

struct reading {
    uint64_t time, own_cpu, server_cpu, server_wait; /* ns */
};

static struct reading take_reading(void) {
    struct reading reading = {.own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
    if (settings.server_pid != 0) {
        reading.server_wait = server_wait_ns();
        reading.server_cpu = server_cpu_ns();
    }
    reading.time = now_ns();
    return reading;
}

static void start(void) {
    load.refill = true;
    switch (load.activity) {
    case HANDSHAKES: load.last_progress = now_ns(); break; /* they have begun by being opened */
    case FANOUT:
        /* A server may count a receiver in a moment after it has answered the handshake. */
        run_until(now_ns() + SUBSCRIBING);
        load.last_progress = now_ns();
        connection_send(load.publisher, 1);
        break;
    default: send_on_all(load.inflight);
    }
}

static void measure(void) {
    start();
    run_until(now_ns() + settings.warmup);

    histogram_clear(&load.latency);
    load.measuring = true;
    struct reading begin = take_reading();
    run_until(begin.time + settings.duration);
    struct reading end = take_reading();
    load.measuring = false;

    await_replies();
    uint32_t unclosed = close_connections();

    if (load.messages == 0)
        fail("no reply came within the measured %.1f s", (double)settings.duration / SECOND);
    double elapsed = (double)(end.time - begin.time) / SECOND;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"messages_per_second\": %.1f",
           (unsigned long long)load.messages, elapsed, (double)load.messages / elapsed);
    printf(", \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f",
           (double)histogram_percentile(&load.latency, 0.50) / 1000,
           (double)histogram_percentile(&load.latency, 0.90) / 1000,
           (double)histogram_percentile(&load.latency, 0.99) / 1000,
           (double)load.latency.maximum / 1000);
    printf(", \"pings\": %llu, \"load_cpu_seconds\": %.6f", (unsigned long long)load.pings,
           (double)(end.own_cpu - begin.own_cpu) / SECOND);
    if (settings.server_pid != 0)
        printf(", \"server_cpu_seconds\": %.6f, \"server_wait_seconds\": %.6f",
               (double)(end.server_cpu - begin.server_cpu) / SECOND,
               (double)(end.server_wait - begin.server_wait) / SECOND);
    printf(", \"unclosed\": %u, \"errors\": 0}\n", unclosed);
}

static void hold(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        fail("idle mode needs a pipe or a terminal as stdin: %s", strerror(errno));
    puts("open");
    fflush(stdout);
    for (;;) {
        char line[64];
        if (!poll_events(-1))
            continue;
        ssize_t got = read(STDIN_FILENO, line, sizeof line - 1);
        if (got <= 0)
            break;
        line[got] = '\0';
        if (strcmp(line, "exchange\n") != 0)
            fail("idle mode understands the line \"exchange\", not '%s'", line);
        send_on_all(1);
        await_replies();
        puts("exchanged");
        fflush(stdout);
    }
    uint32_t unclosed = close_connections();
    printf("{\"connections\": %u, \"pings\": %llu, \"unclosed\": %u, \"errors\": 0}\n",
           settings.connections, (unsigned long long)load.pings, unclosed);
}

int main(int argc, char **argv) {
    settings = parse_options(argc, argv);
    raise_descriptor_limit();
    load.epoll = epoll_create1(0);
    if (load.epoll < 0)
        fail("epoll_create1: %s", strerror(errno));
    open_connections();
    if (load.activity == IDLE)
        hold();
    else
        measure();
    return 0;
}
