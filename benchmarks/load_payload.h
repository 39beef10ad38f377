/* What the messages of the load generator say. All of it is repeatable: no clock, no randomness. */
#ifndef LOAD_PAYLOAD_H
#define LOAD_PAYLOAD_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum payload { PAYLOAD_ASCII, PAYLOAD_BINARY, PAYLOAD_UTF8, PAYLOAD_JSON };

/* The smallest JSON message: everything but its items. */
#define JSON_LEAST 160
#define NUMBER_LENGTH 8

static inline uint32_t next_number(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Two, three and four bytes a character among ASCII, cut between characters. */
static inline void fill_utf8(uint8_t *payload, size_t size) {
    static const char sample[] =
        "Zw\xC3\xB6lf Boxk\xC3\xA4mpfer, \xD0\x9C\xD0\xBE\xD1\x81\xD0\xBA\xD0\xB2\xD0\xB0, "
        "\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xB8\x96\xE7\x95\x8C, \xF0\x9F\x98\x80! ";
    const size_t length = sizeof sample - 1;
    size_t i = 0, rest;
    for (; size - i >= length; i += length)
        memcpy(payload + i, sample, length);
    for (rest = size - i; rest > 0 && ((uint8_t)sample[rest] & 0xC0u) == 0x80; rest--)
        ;
    memcpy(payload + i, sample, rest);
    memset(payload + i + rest, '.', size - i - rest);
}

/* An order with items, compact, exactly `size` bytes. No string has a space in it and every number
 * has one spelling, so that what another serialiser makes of it differs in spaces only. */
static inline void fill_json(uint8_t *payload, size_t size, size_t number) {
    static const char tail[] = "],\"total\":1204.5,\"note\":\"";
    static const char end[] = "\"}";
    char item[96];
    char *at = (char *)payload, *limit = at + size - (sizeof tail - 1) - (sizeof end - 1);
    uint32_t state = 2463534242u + (uint32_t)number * 7919u;
    at += sprintf(at,
                  "{\"id\":%zu,\"kind\":\"order\",\"user\":{\"name\":\"user-%04u\",\"active\":true,"
                  "\"referrer\":null},\"items\":[",
                  10000000 + number % 10000000, next_number(&state) % 10000);
    for (int count = 0;; count++) {
        int length =
            snprintf(item, sizeof item, "%s{\"sku\":\"%08X\",\"count\":%u,\"price\":%u.25}",
                     count ? "," : "", next_number(&state), 1 + next_number(&state) % 9,
                     1 + next_number(&state) % 400);
        if (at + length > limit)
            break;
        memcpy(at, item, (size_t)length);
        at += length;
    }
    memcpy(at, tail, sizeof tail - 1);
    at += sizeof tail - 1;
    while (at < (char *)payload + size - (sizeof end - 1))
        *at++ = (char)('a' + next_number(&state) % 26);
    memcpy(at, end, sizeof end - 1);
}

/* The payload of one message; its number in the cycle makes it differ from the others, so that
 * replies in a wrong order are seen. */
static inline void fill_payload(uint8_t *payload, size_t size, enum payload kind, size_t number) {
    char digits[NUMBER_LENGTH + 1];
    switch (kind) {
    case PAYLOAD_JSON: fill_json(payload, size, number); return;
    case PAYLOAD_UTF8: {
        size_t head = size < NUMBER_LENGTH ? size : NUMBER_LENGTH;
        fill_utf8(payload + head, size - head);
        break;
    }
    case PAYLOAD_BINARY:
        /* Bytes of every value; a server that takes them for text fails. */
        for (size_t i = 0; i < size; i++)
            payload[i] = (uint8_t)(0xff - (i + number) % 256);
        break;
    case PAYLOAD_ASCII:
        for (size_t i = 0; i < size; i++)
            payload[i] = (uint8_t)('a' + (i + number) % 26);
    }
    snprintf(digits, sizeof digits, "%08zu", number % 100000000);
    size_t shown = size < NUMBER_LENGTH ? size : NUMBER_LENGTH;
    memcpy(payload, digits + NUMBER_LENGTH - shown, shown);
}

#endif
