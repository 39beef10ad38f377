/* Load generator: one thread, epoll, a closed loop of N messages in flight on each connection.
 * `load --help` lists its options.
 *
 * The result is one JSON line on stdout. With --server-pid it holds the server's own CPU time, read
 * by this process at the very moments the measured window begins and ends, so that neither start-up
 * nor warm-up nor another process's wake-up is counted. */
#include "load_connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
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
#define EVENTS 512

static const char HELP[] =
    "usage: load ws|tcp|idle [options]\n"
    "\n"
    "  ws    WebSocket echo: opening handshake, then masked messages, each answered by the same "
    "message\n"
    "  tcp   raw echo of exactly the bytes that ws would send for each message\n"
    "  idle  open connections, print \"open\", and hold them until stdin ends; a line \"exchange\" "
    "on stdin\n"
    "        sends one message on each connection and prints \"exchanged\" when all are answered\n"
    "\n"
    "  --host ADDRESS     IPv4 address of the server (127.0.0.1)\n"
    "  --port PORT        required\n"
    "  --path PATH        request target of the handshake (/ws)\n"
    "  --connections N    (50)\n"
    "  --inflight N       messages on their way on each connection (1)\n"
    "  --size BYTES       payload of a message, ASCII (64)\n"
    "  --binary           binary messages instead of text\n"
    "  --warmup SECONDS   not measured (0.5)\n"
    "  --duration SECONDS measured (3)\n"
    "  --ramp N           connections that may be opening at the same time (64)\n"
    "  --server-pid PID   report the CPU time of this process over the measured window\n";

struct load load;

static struct connection *connections;
static uint32_t connection_count = 50;
static uint32_t ramp = 64;
static pid_t server_pid;

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

/* ---- options ---- */

static uint64_t number(const char *option, const char *text, uint64_t lowest, uint64_t highest) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || value < lowest ||
        value > highest)
        fail("--%s takes a number from %llu to %llu, not '%s'", option, (unsigned long long)lowest,
             (unsigned long long)highest, text);
    return value;
}

static uint64_t seconds(const char *option, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value <= 3600))
        fail("--%s takes seconds from 0 to 3600, not '%s'", option, text);
    return (uint64_t)(value * (double)SECOND);
}

static void build_request(const char *path, const char *host, unsigned port) {
    int length =
        asprintf(&load.request,
                 "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                 path, host, port);
    if (length < 0)
        fail("out of memory");
    load.request_length = (size_t)length;
}

static void parse_options(int argc, char **argv, uint64_t *warmup, uint64_t *duration) {
    enum {
        HOST = 1,
        PORT,
        PATH,
        CONNECTIONS,
        INFLIGHT,
        SIZE,
        BINARY,
        WARMUP,
        DURATION,
        RAMP,
        SERVER_PID,
        HELP_OPTION
    };
    static const struct option options[] = {
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"path", required_argument, NULL, PATH},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"inflight", required_argument, NULL, INFLIGHT},
        {"size", required_argument, NULL, SIZE},
        {"binary", no_argument, NULL, BINARY},
        {"warmup", required_argument, NULL, WARMUP},
        {"duration", required_argument, NULL, DURATION},
        {"ramp", required_argument, NULL, RAMP},
        {"server-pid", required_argument, NULL, SERVER_PID},
        {"help", no_argument, NULL, HELP_OPTION},
        {NULL, 0, NULL, 0},
    };
    const char *host = "127.0.0.1", *path = "/ws";
    unsigned port = 0;
    size_t size = 64;
    int binary = 0, chosen, index = 0;
    load.inflight = 1;
    while ((chosen = getopt_long(argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;
        switch (chosen) {
        case HOST: host = optarg; break;
        case PORT: port = (unsigned)number(name, optarg, 1, 65535); break;
        case PATH: path = optarg; break;
        case CONNECTIONS: connection_count = (uint32_t)number(name, optarg, 1, 1000000); break;
        case INFLIGHT: load.inflight = (uint32_t)number(name, optarg, 1, 100000); break;
        case SIZE: size = (size_t)number(name, optarg, 1, 1ull << 30); break;
        case BINARY: binary = 1; break;
        case WARMUP: *warmup = seconds(name, optarg); break;
        case DURATION: *duration = seconds(name, optarg); break;
        case RAMP: ramp = (uint32_t)number(name, optarg, 1, 1000000); break;
        case SERVER_PID: server_pid = (pid_t)number(name, optarg, 1, INT32_MAX); break;
        case HELP_OPTION: fputs(HELP, stdout); exit(0);
        default: fputs(HELP, stderr); exit(2);
        }
    }
    if (optind + 1 != argc || port == 0) {
        fputs(HELP, stderr);
        exit(2);
    }
    const char *mode = argv[optind];
    if (strcmp(mode, "ws") == 0)
        load.mode = MODE_WS;
    else if (strcmp(mode, "tcp") == 0)
        load.mode = MODE_TCP;
    else if (strcmp(mode, "idle") == 0)
        load.mode = MODE_IDLE;
    else
        fail("the mode is ws, tcp or idle, not '%s'", mode);
    load.server.sin_family = AF_INET;
    load.server.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &load.server.sin_addr) != 1)
        fail("--host takes an IPv4 address, not '%s'", host);
    build_request(path, host, port);
    if (!stream_build(&load.stream, load.inflight, size, binary, load.mode == MODE_TCP))
        fail("no memory for %u messages of %zu bytes", load.inflight, size);
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connection_count + 16;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_max < wanted)
        fail("%u connections need %llu descriptors, but the hard limit (ulimit -Hn) is %llu",
             connection_count, (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
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
    connections = calloc(connection_count, sizeof *connections);
    if (connections == NULL)
        fail("no memory for %u connections", connection_count);
    load.last_progress = now_ns();
    while (load.open < connection_count) {
        while (started < connection_count && started - load.open < ramp)
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
    for (uint32_t i = 0; i < connection_count; i++)
        connection_send(&connections[i], count);
}

static void await_replies(void) {
    load.refill = false;
    /* What was sent again since, but lies in `outstanding` as before, is answered too. */
    while (load.outstanding > 0) {
        poll_events(100);
        fail_if_silent("replies were due");
    }
}

static void close_connections(void) {
    load.last_progress = now_ns();
    for (uint32_t i = 0; i < connection_count; i++)
        connection_close(&connections[i]);
    while (load.closed < connection_count) {
        poll_events(100);
        fail_if_silent("connections were closing");
    }
}

/* CPU time of every thread of the server, exact to the call (/proc/PID/schedstat lags by up to a
 * scheduler tick). */
static uint64_t server_cpu_ns(void) {
    clockid_t clock;
    int error = clock_getcpuclockid(server_pid, &clock);
    if (error != 0)
        fail("--server-pid %d: %s", (int)server_pid, strerror(error));
    return clock_ns(clock);
}

/* ns that the server's main thread was ready to run while its core ran something else; 0 where the
 * kernel does not say. */
static uint64_t server_wait_ns(void) {
    char path[64];
    unsigned long long ran = 0, waited = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)server_pid);
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
    if (server_pid != 0) {
        reading.server_wait = server_wait_ns();
        reading.server_cpu = server_cpu_ns();
    }
    reading.time = now_ns();
    return reading;
}

static void measure(uint64_t warmup, uint64_t duration) {
    load.refill = true;
    send_on_all(load.inflight);
    run_until(now_ns() + warmup);

    histogram_clear(&load.latency);
    load.measuring = true;
    struct reading start = take_reading();
    run_until(start.time + duration);
    struct reading end = take_reading();
    load.measuring = false;

    await_replies();
    close_connections();

    if (load.messages == 0)
        fail("no reply came within the measured %.1f s", (double)duration / SECOND);
    double elapsed = (double)(end.time - start.time) / SECOND;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"messages_per_second\": %.1f",
           (unsigned long long)load.messages, elapsed, (double)load.messages / elapsed);
    printf(", \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f",
           (double)histogram_percentile(&load.latency, 0.50) / 1000,
           (double)histogram_percentile(&load.latency, 0.90) / 1000,
           (double)histogram_percentile(&load.latency, 0.99) / 1000,
           (double)load.latency.maximum / 1000);
    printf(", \"pings\": %llu, \"load_cpu_seconds\": %.6f", (unsigned long long)load.pings,
           (double)(end.own_cpu - start.own_cpu) / SECOND);
    if (server_pid != 0)
        printf(", \"server_cpu_seconds\": %.6f, \"server_wait_seconds\": %.6f",
               (double)(end.server_cpu - start.server_cpu) / SECOND,
               (double)(end.server_wait - start.server_wait) / SECOND);
    printf(", \"errors\": 0}\n");
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
    close_connections();
    printf("{\"connections\": %u, \"pings\": %llu, \"errors\": 0}\n", connection_count,
           (unsigned long long)load.pings);
}

int main(int argc, char **argv) {
    uint64_t warmup = SECOND / 2, duration = 3 * SECOND;
    parse_options(argc, argv, &warmup, &duration);
    raise_descriptor_limit();
    load.epoll = epoll_create1(0);
    if (load.epoll < 0)
        fail("epoll_create1: %s", strerror(errno));
    open_connections();
    if (load.mode == MODE_IDLE)
        hold();
    else
        measure(warmup, duration);
    return 0;
}
