/* Documents as shards hold them: cleaned, counted, and their words for a hash. */

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

#define BLOCK 32 /* bytes that are worked on together */

typedef uint8_t block __attribute__((vector_size(BLOCK), aligned(1), may_alias));

/* Whether a mask of 0 and 255 has a byte that is not 0. */
static inline int any(block mask) {
    uint64_t parts[BLOCK / 8];
    memcpy(parts, &mask, BLOCK);
    uint64_t all = 0;
    for (int i = 0; i < BLOCK / 8; i++) all |= parts[i];
    return all != 0;
}

static inline int is_control(uint8_t c) { return (c < 0x20 && c != '\n') | (c == 0x7f); }

/* Text with spaces for control characters and \n for each line break, to `out`; its bytes. */
static int64_t translated(const uint8_t *text, int64_t length, uint8_t *out) {
    if (!memchr(text, '\r', length) && !memchr(text, 0xc2, length)) {
        for (int64_t i = 0; i < length; i++) out[i] = is_control(text[i]) ? ' ' : text[i];
        return length;
    }
    const uint8_t *end = text + length;
    uint8_t *at = out;
    while (text < end) {
        uint8_t c = *text++;
        if (c == '\r') {
            text += text < end && *text == '\n';
            *at++ = '\n';
        } else if (c == 0xc2 && *text < 0xa0) { /* U+0080 to U+009F */
            text++;
            *at++ = ' ';
        } else {
            *at++ = is_control(c) ? ' ' : c;
        }
    }
    return at - out;
}

/* The text without white space around, at `text`; its bytes. */
static int64_t stripped(uint8_t *text, int64_t length) {
    const uint8_t *begin = text, *end = text + length, *last;
    int space;
    while (begin < end && (space = white_space(begin, end))) begin += space;
    while (end > begin) {
        for (last = end - 1; (*last & 0xc0) == 0x80;) last--;
        if (!white_space(last, end)) break;
        end = last;
    }
    memmove(text, begin, end - begin);
    return end - begin;
}

static int64_t count_characters(const uint8_t *text, int64_t length) {
    int64_t count = 0;
    for (int64_t i = 0; i < length; i++) count += (text[i] & 0xc0) != 0x80;
    return count;
}

/* A case folding: `place[c]`, of code points below `known`, is 0 where c stays as it is, else where
 * in `pool` what stands for it begins, behind its bytes' number. */
struct folding {
    const int32_t *place;
    int64_t known;
    const uint8_t *pool;
};

static inline block is_space_or_break(block c) { return (block)(c == ' ') | (block)(c == '\n'); }

/* The words of a cleaned text, case folded and joined by single spaces, to `out`; their bytes. */
static int64_t folded_words(const uint8_t *text, int64_t length, struct folding fold, uint8_t *out) {
    const uint8_t *begin = text, *end = text + length;
    uint8_t *at = out;
    int after_space = 1, space;
    while (text < end) {
        /* A block of ASCII in which no white space follows another keeps its length. */
        if (text > begin && end - text >= BLOCK) {
            block c = *(const block *)text, before = *(const block *)(text - 1);
            block spaces = is_space_or_break(c);
            if (!after_space == !is_space_or_break(before)[0] &&
                !any((block)(c >= 0x80) | (spaces & is_space_or_break(before)))) {
                block upper = (block)(c >= 'A') & (block)(c <= 'Z');
                *(block *)at = ((c | (upper & 0x20)) & ~spaces) | (spaces & ' ');
                after_space = spaces[BLOCK - 1] != 0;
                at += BLOCK, text += BLOCK;
                continue;
            }
        }
        const uint8_t *until = end - text > BLOCK ? text + BLOCK : end;
        while (text < until) {
            uint8_t c = *text;
            if (c < 0x80) {
                space = c == ' ' || c == '\n';
                *at = space ? ' ' : c >= 'A' && c <= 'Z' ? c | 0x20 : c;
                at += !(space & after_space);
                after_space = space;
                text++;
                continue;
            }
            if (may_be_space[c] && (space = white_space(text, end))) {
                if (!after_space) *at++ = ' ';
                after_space = 1;
                text += space;
                continue;
            }
            int bytes;
            uint32_t point = code_point(text, &bytes);
            int32_t place = point < fold.known ? fold.place[point] : 0;
            const uint8_t *from = place ? fold.pool + place + 1 : text;
            int count = place ? fold.pool[place] : bytes;
            for (int i = 0; i < count; i++) *at++ = from[i];
            after_space = 0;
            text += bytes;
        }
    }
    return at - out - (at > out && after_space);
}

/* Of `count` texts, `text[starts[i]] .. text[starts[i + 1]]` in UTF-8: cleaned, one behind the other,
 * to `out`, and the words of each to `words`; where each ends there, and its characters. `words` has
 * room for three bytes for each of the texts. */
void clean_documents(const uint8_t *text, const int64_t *starts, int64_t count,
                     const int32_t *place, int64_t known, const uint8_t *pool, uint8_t *out,
                     int64_t *ends, int64_t *characters, uint8_t *words, int64_t *word_ends) {
    struct folding fold = {place, known, pool};
    int64_t end = 0, word_end = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t length = translated(text + starts[i], starts[i + 1] - starts[i], out + end);
        length = stripped(out + end, length);
        characters[i] = count_characters(out + end, length);
        word_end += folded_words(out + end, length, fold, words + word_end);
        ends[i] = end += length;
        word_ends[i] = word_end;
    }
}
