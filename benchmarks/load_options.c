#include "load_connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND 1000000000ull

static const char HELP[] =
    "usage: load echo|fanout|handshakes|idle [options]\n"
    "\n"
    "  echo        masked messages, each answered by the same message\n"
    "  fanout      one connection publishes a message, all others get it; then the next message\n"
    "  handshakes  opening handshake, closing handshake, and over again\n"
    "  idle        open connections, print \"open\", and hold them until stdin ends; a line\n"
    "              \"exchange\" on stdin sends one message on each connection and prints\n"
    "              \"exchanged\" when all are answered\n"
    "\n"
    "  --raw              plain TCP: no handshake; the peer returns (fanout: relays) exactly the\n"
    "                     bytes that would be sent to a WebSocket server\n"
    "  --host ADDRESS     IPv4 address of the server (127.0.0.1)\n"
    "  --port PORT        required\n"
    "  --path PATH        request target of the handshake (/ws)\n"
    "  --publish-path PATH  that of the connection that publishes (/publish)\n"
    "  --connections N    (50)\n"
    "  --inflight N       messages on their way on each connection (1)\n"
    "  --size BYTES       payload of a message (64)\n"
    "  --payload KIND     ascii, utf8, json (these are text) or binary (ascii)\n"
    "  --compression MODE dedicated (context takeover), full (with it and a window of 2^15),\n"
    "                     shared (none) or off (off)\n"
    "  --warmup SECONDS   not measured (0.5)\n"
    "  --duration SECONDS measured (3)\n"
    "  --ramp N           connections that may be opening at the same time (64)\n"
    "  --server-pid PID   report the CPU time of this process over the measured window\n";

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

/* The place of `text` in a list that ends with NULL. */
static int choice(const char *what, const char *text, const char *const *names) {
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    fail("%s cannot be '%s': see --help", what, text);
}

static char *build_request(const char *path, const char *host, unsigned port, size_t *length) {
    static const char *const offers[] = {
        [COMPRESSION_OFF] = "",
        [COMPRESSION_DEDICATED] = "Sec-WebSocket-Extensions: " DEFLATE_OFFER "\r\n",
        [COMPRESSION_SHARED] = "Sec-WebSocket-Extensions: " DEFLATE_OFFER_SHARED "\r\n",
        [COMPRESSION_FULL] = "Sec-WebSocket-Extensions: " DEFLATE_OFFER_FULL "\r\n",
    };
    char *request;
    int made =
        asprintf(&request,
                 "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                 "%s\r\n",
                 path, host, port, offers[load.compression]);
    if (made < 0)
        fail("out of memory");
    *length = (size_t)made;
    return request;
}

/* Compressed replies and JSON are compared whole: how a server spells them is its own affair. */
static size_t body_limit(size_t size) {
    bool whole = !load.raw && (load.json || load.compression != COMPRESSION_OFF);
    return whole ? 2 * size + 1024 : 0;
}

struct settings parse_options(int argc, char **argv) {
    enum {
        RAW = 1,
        HOST,
        PORT,
        PATH,
        PUBLISH_PATH,
        CONNECTIONS,
        INFLIGHT,
        SIZE,
        PAYLOAD,
        COMPRESSION,
        WARMUP,
        DURATION,
        RAMP,
        SERVER_PID,
        HELP_OPTION
    };
    static const struct option options[] = {
        {"raw", no_argument, NULL, RAW},
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"path", required_argument, NULL, PATH},
        {"publish-path", required_argument, NULL, PUBLISH_PATH},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"inflight", required_argument, NULL, INFLIGHT},
        {"size", required_argument, NULL, SIZE},
        {"payload", required_argument, NULL, PAYLOAD},
        {"compression", required_argument, NULL, COMPRESSION},
        {"warmup", required_argument, NULL, WARMUP},
        {"duration", required_argument, NULL, DURATION},
        {"ramp", required_argument, NULL, RAMP},
        {"server-pid", required_argument, NULL, SERVER_PID},
        {"help", no_argument, NULL, HELP_OPTION},
        {NULL, 0, NULL, 0},
    };
    static const char *const activities[] = {"echo", "fanout", "handshakes", "idle", NULL};
    static const char *const payloads[] = {"ascii", "binary", "utf8", "json", NULL};
    static const char *const compressions[] = {"off", "dedicated", "shared", "full", NULL};
    struct settings settings = {
        .connections = 50, .ramp = 64, .warmup = SECOND / 2, .duration = 3 * SECOND};
    struct stream_options stream = {.size = 64};
    const char *host = "127.0.0.1", *path = "/ws", *publish_path = "/publish";
    unsigned port = 0;
    int chosen, index = 0;
    load.inflight = 1;
    while ((chosen = getopt_long(argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;
        switch (chosen) {
        case RAW: load.raw = true; break;
        case HOST: host = optarg; break;
        case PORT: port = (unsigned)number(name, optarg, 1, 65535); break;
        case PATH: path = optarg; break;
        case PUBLISH_PATH: publish_path = optarg; break;
        case CONNECTIONS:
            settings.connections = (uint32_t)number(name, optarg, 1, 1000000);
            break;
        case INFLIGHT: load.inflight = (uint32_t)number(name, optarg, 1, 100000); break;
        case SIZE: stream.size = (size_t)number(name, optarg, 1, 1ull << 30); break;
        case PAYLOAD: stream.payload = (enum payload)choice(name, optarg, payloads); break;
        case COMPRESSION:
            load.compression = (enum compression)choice(name, optarg, compressions);
            break;
        case WARMUP: settings.warmup = seconds(name, optarg); break;
        case DURATION: settings.duration = seconds(name, optarg); break;
        case RAMP: settings.ramp = (uint32_t)number(name, optarg, 1, 1000000); break;
        case SERVER_PID: settings.server_pid = (pid_t)number(name, optarg, 1, INT32_MAX); break;
        case HELP_OPTION: fputs(HELP, stdout); exit(0);
        default: fputs(HELP, stderr); exit(2);
        }
    }
    if (optind + 1 != argc || port == 0) {
        fputs(HELP, stderr);
        exit(2);
    }
    load.activity = (enum activity)choice("the activity", argv[optind], activities);
    load.json = stream.payload == PAYLOAD_JSON;
    if (load.json && stream.size < JSON_LEAST)
        fail("--payload json takes --size %d and more", JSON_LEAST);
    if (load.compression != COMPRESSION_OFF && !deflate_is_there())
        fail("--compression needs the header zlib.h (zlib1g-dev on Debian) when load is compiled");
    if (load.activity == FANOUT && (load.inflight > 1 || settings.connections < 2))
        fail("fanout has one message on its way, and 2 connections or more");
    if (load.activity == HANDSHAKES)
        settings.ramp = settings.connections; /* as many are opening all the time */
    load.server.sin_family = AF_INET;
    load.server.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &load.server.sin_addr) != 1)
        fail("--host takes an IPv4 address, not '%s'", host);
    load.request = build_request(path, host, port, &load.request_length);
    load.publish_request = build_request(publish_path, host, port, &load.publish_request_length);
    load.body_limit = body_limit(stream.size);
    stream.raw = load.raw;
    stream.inflight = load.inflight;
    /* Idle connections say one plain word each: compression is agreed on and unused. */
    stream.compression = load.activity == IDLE ? COMPRESSION_OFF : load.compression;
    if (!stream_build(&load.stream, &stream))
        fail("no memory for %u messages of %zu bytes", load.inflight, stream.size);
    return settings;
}
