/* Kernels of text, for whoever prepares it: no torch, no threads, the same bits everywhere. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "compiled_for.h"

/* Code point at `text`, of valid UTF-8 or a surrogate in three bytes, and its bytes. */
static inline uint32_t code_point(const uint8_t *text, int *bytes) {
    uint32_t c = text[0];
    if (c < 0x80) return *bytes = 1, c;
    *bytes = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    c &= 0x7fu >> *bytes;
    for (int i = 1; i < *bytes; i++) c = (c << 6) | (text[i] & 0x3f);
    return c;
}

#include "cleaned.h"
#include "page_scores.h"
#include "scan.h"
#include "unigram.h"
