/* White space as Python's str.split knows it: bytes of the one that begins at `text`, or 0. */
static inline int white_space(const uint8_t *text, const uint8_t *end) {
    uint8_t a = text[0];
    if (a < 0x80) return a == ' ' || (a >= 9 && a <= 13) || (a >= 28 && a <= 31);
    if (a == 0xc2) return end - text > 1 && (text[1] == 0x85 || text[1] == 0xa0) ? 2 : 0;
    if (a < 0xe1 || a > 0xe3 || end - text < 3) return 0;
    uint32_t c = (uint32_t)(a & 0xf) << 12 | (uint32_t)(text[1] & 0x3f) << 6 | (text[2] & 0x3f);
    int is_space = c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
                   c == 0x202f || c == 0x205f || c == 0x3000;
    return is_space ? 3 : 0;
}

/* Whether a character that begins with this byte may be white space. */
static const uint8_t may_be_space[256] = {
    [9 ... 13] = 1, [28 ... 32] = 1, [0xc2] = 1, [0xe1 ... 0xe3] = 1,
};

/* The words of `length` bytes of UTF-8, joined by single spaces, into `out`; their bytes. */
int64_t squeeze(const uint8_t *text, int64_t length, uint8_t *out) {
    const uint8_t *end = text + length;
    uint8_t *at = out;
    while (text < end) {
        int space, gap = 0;
        while (text < end && may_be_space[*text] && (space = white_space(text, end))) {
            text += space;
            gap = 1;
        }
        if (gap && at > out && text < end) *at++ = ' ';
        if (text < end) *at++ = *text++;
        while (text < end && !may_be_space[*text]) *at++ = *text++;
    }
    return at - out;
}
