/* glam/data/scan.py: words, n-grams, MinHash bands and n-grams that stand in a table. */

#define BASE 0x9E3779B97F4A7C15ull /* of polynomials of characters and of words */
#define MOST_MINIMA 1024
#define KEYS 256
#define AT_ONCE 8 /* n-grams that meet a hash function while its minimum is in a register */

static inline uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

/* The letter at `text`, in lower case, or 0; and its bytes. Of most texts all are ASCII. */
static inline uint32_t letter_at(const uint8_t *text, const uint32_t *letters, int *size) {
    if (__builtin_expect(*text < 0x80, 1)) return *size = 1, letters[*text];
    return letters[code_point(text, size)];
}

/* Hashes of the words of text[at..end), into `words`; returns how many. */
static int64_t hash_words(const uint8_t *text, int64_t at, int64_t end, const uint32_t *letters,
                          uint64_t *words) {
    int64_t count = 0;
    int size;
    while (at < end) {
        uint64_t hash = letter_at(text + at, letters, &size);
        at += size;
        if (!hash) continue;
        for (uint32_t letter; at < end && (letter = letter_at(text + at, letters, &size)); at += size)
            hash = hash * BASE + letter;
        words[count++] = mixed(hash);
        at += at < end ? size : 0; /* what ended the word */
    }
    return count;
}

/* A window that moves over n words, a step at a time. */
typedef struct {
    uint64_t sum, salt, leaving; /* of the words; of their number; what the oldest is worth */
} window;

static window first_window(const uint64_t *words, int64_t n) {
    window w = {0, (uint64_t)n, 1};
    for (int64_t k = 0; k < n; k++) {
        w.sum = w.sum * BASE + words[k];
        w.salt *= BASE;
        w.leaving *= BASE;
    }
    return w;
}

static inline void move(window *w, uint64_t oldest, uint64_t next) {
    w->sum = w->sum * BASE - oldest * w->leaving + next;
}

static inline void lower_minima(uint32_t *least, const uint32_t *hashes, const uint32_t *multipliers,
                                const uint32_t *addends, int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        uint32_t best = least[k], multiplier = multipliers[k], addend = addends[k];
#pragma GCC unroll 8
        for (int s = 0; s < AT_ONCE; s++) {
            uint32_t y = hashes[s] * multiplier + addend;
            y ^= y >> 15;
            y *= 0x85EBCA6Bu;
            best = y < best ? y : best;
        }
        least[k] = best;
    }
}

/* The bands of a document of at least one word. `multipliers` and `addends` [bands * rows]. */
static void sign(const uint64_t *words, int64_t count, int64_t n, int64_t bands, int64_t rows,
                 const uint32_t *multipliers, const uint32_t *addends, uint64_t *out) {
    uint32_t least[MOST_MINIMA], hashes[AT_ONCE];
    memset(least, 0xFF, sizeof(uint32_t) * (size_t)(bands * rows));
    if (n > count) n = count;
    window w = first_window(words, n);
    int64_t shingles = count - n + 1;
    for (int64_t i = 0; i < shingles; i += AT_ONCE) {
        for (int s = 0; s < AT_ONCE; s++) {
            if (i + s < shingles) {
                if (i + s) move(&w, words[i + s - 1], words[i + s - 1 + n]);
                hashes[s] = (uint32_t)(mixed(w.sum + w.salt) >> 32);
            } else {
                hashes[s] = hashes[0]; /* once more, which changes no minimum */
            }
        }
        lower_minima(least, hashes, multipliers, addends, bands * rows);
    }
    for (int64_t b = 0; b < bands; b++) {
        uint64_t band = 0;
        for (int64_t r = 0; r < rows; r++)
            band |= (uint64_t)(least[b * rows + r] * 0x9E3779B1u >> 24) << (8 * r);
        out[b] = band;
    }
}

typedef struct {
    const int64_t *sizes;
    int64_t num_sizes;
    const uint8_t *bitmap;
    uint64_t mask; /* of the bits that name a place in it */
} ngram_table;

typedef struct {
    int64_t *documents;
    uint64_t *keys;
    int64_t room, count; /* counted beyond the room too */
} found;

/* `sums [count + 1]`: of the words before each place, as one polynomial. An n-gram is what is
   between two: the keys of many are worked out at once, in vectors. */
static void look_up(const uint64_t *sums, int64_t count, const ngram_table *table, int64_t document,
                    found *hits) {
    uint64_t keys[KEYS];
    for (int64_t j = 0; j < table->num_sizes; j++) {
        int64_t n = table->sizes[j];
        uint64_t power = 1;
        for (int64_t k = 0; k < n; k++) power *= BASE;
        for (int64_t first = 0; first + n <= count; first += KEYS) {
            int64_t many = count - n + 1 - first < KEYS ? count - n + 1 - first : KEYS;
            const uint64_t *before = sums + first, *after = before + n;
            for (int64_t i = 0; i < many; i++)
                keys[i] = mixed(after[i] - before[i] * power + (uint64_t)n * power);
            for (int64_t i = 0; i < many; i++) {
                uint64_t place = keys[i] & table->mask;
                if (table->bitmap[place >> 3] >> (place & 7) & 1) {
                    if (hits->count < hits->room) {
                        hits->documents[hits->count] = document;
                        hits->keys[hits->count] = keys[i];
                    }
                    hits->count++;
                }
            }
        }
    }
}

/* `ends [documents]`: where each document ends in `text`. `words`: room for one hash more than
   the longest document has words. Bands are written where `bands` > 0, of documents that have a word;
   hits where `num_sizes` > 0. Returns how many hits there are, which may be more than `room`. */
int64_t scan(const uint8_t *text, const int64_t *ends, int64_t documents, const uint32_t *letters,
             uint64_t *words, int64_t n, int64_t bands, int64_t rows, const uint32_t *multipliers,
             const uint32_t *addends, uint64_t *signatures, const int64_t *sizes, int64_t num_sizes,
             const uint8_t *bitmap, uint64_t mask, int64_t *hit_documents, uint64_t *hit_keys,
             int64_t room) {
    ngram_table table = {sizes, num_sizes, bitmap, mask};
    found hits = {hit_documents, hit_keys, room, 0};
    int64_t at = 0;
    for (int64_t d = 0; d < documents; d++) {
        int64_t count = hash_words(text, at, ends[d], letters, words + 1);
        if (count && bands)
            sign(words + 1, count, n, bands, rows, multipliers, addends, signatures + d * bands);
        words[0] = 0;
        for (int64_t i = 0; num_sizes && i < count; i++) words[i + 1] += words[i] * BASE;
        look_up(words, count, &table, d, &hits);
        at = ends[d];
    }
    return hits.count;
}
