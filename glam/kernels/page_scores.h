/* Products of hashed n-grams with linear classifiers, page by page: the features are those of
   scikit-learn's HashingVectorizer with alternating signs and no norm. All sums are exact. */

typedef struct {
    uint32_t page, feature;
    int64_t count;
} Slot; /* of a hash table that is emptied by counting pages */

typedef struct {
    int64_t start, end;
} Word; /* bytes of the joined words */

static inline uint32_t rotate(uint32_t x, int by) { return (x << by) | (x >> (32 - by)); }

static inline uint32_t scrambled(uint32_t k) { return rotate(k * 0xcc9e2d51u, 15) * 0x1b873593u; }

/* MurmurHash3_x86_32 of `length` bytes, whose whole blocks of four are in `h` already. */
static inline uint32_t finished(uint32_t h, const uint8_t *text, int64_t length) {
    const uint8_t *tail = text + (length & ~(int64_t)3);
    uint32_t k = 0;
    switch (length & 3) {
    case 3: k ^= (uint32_t)tail[2] << 16; /* fall through */
    case 2: k ^= (uint32_t)tail[1] << 8;  /* fall through */
    case 1: h ^= scrambled(k ^ tail[0]);
    }
    h ^= (uint32_t)length;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return h ^ (h >> 16);
}

/* Words of two letters and more, joined by single spaces; their number. */
static int64_t words_of(const uint8_t *text, int64_t length, const uint8_t *is_letter,
                        uint8_t *joined, Word *words) {
    int64_t count = 0, out = 0, at = 0;
    while (at < length) {
        int64_t start = at;
        int bytes, letters = 0;
        while (at < length) {
            uint32_t c = code_point(text + at, &bytes);
            if (!(is_letter[c >> 3] >> (c & 7) & 1)) break;
            at += bytes;
            letters++;
        }
        if (letters > 1) {
            if (out) joined[out++] = ' ';
            memcpy(joined + out, text + start, at - start);
            words[count++] = (Word){out, out + at - start};
            out += at - start;
        }
        if (at < length) at += bytes; /* what ended the word */
    }
    return count;
}

static inline int64_t feature_of(int32_t hash, int64_t features) {
    int64_t size = hash == INT32_MIN ? 2147483647 - (features - 1) : hash < 0 ? -hash : hash;
    return (features & (features - 1)) ? size % features : size & (features - 1);
}

static int64_t slots_for(int64_t ngrams, int64_t features) {
    int64_t most = ngrams < features ? ngrams : features, slots = 16;
    while (slots < 2 * most) slots *= 2;
    return slots;
}

/* Adds `sign` to the count of a feature, and to `squares` what that adds to its square. */
static inline void count(Slot *slots, int64_t mask, uint32_t page, uint32_t feature, int64_t sign,
                         int64_t *squares) {
    int64_t at = (feature * 0x9e3779b1u) & mask;
    while (slots[at].page == page && slots[at].feature != feature) at = (at + 1) & mask;
    if (slots[at].page != page) slots[at] = (Slot){page, feature, 0};
    *squares += 2 * slots[at].count * sign + 1;
    slots[at].count += sign;
}

/* The n-grams of the words in `joined`, of `ngrams` words at most: their features and signs in
   one number each, 2 * feature + 1 where the sign is negative; how many. */
static int64_t features_of(const uint8_t *joined, const Word *words, int64_t number, int64_t ngrams,
                           int64_t features, const int32_t *weights, uint32_t *out) {
    int64_t found = 0;
    for (int64_t first = 0; first < number; first++) {
        const uint8_t *from = joined + words[first].start;
        int64_t done = 0, last = first + ngrams < number ? first + ngrams : number;
        uint32_t h = 0;
        for (int64_t end = first; end < last; end++) {
            int64_t length = words[end].end - words[first].start;
            for (; done + 4 <= length; done += 4) {
                uint32_t k;
                memcpy(&k, from + done, 4);
                h = rotate(h ^ scrambled(k), 13) * 5 + 0xe6546b64u;
            }
            int32_t hash = (int32_t)finished(h, from, length);
            int64_t feature = feature_of(hash, features);
            if (weights) __builtin_prefetch(weights + feature); /* of a megabyte and more */
            out[found++] = (uint32_t)feature << 1 | (hash < 0);
        }
    }
    return found;
}

static int64_t longest_of(const int64_t *ends, int64_t pages) {
    int64_t longest = 0;
    for (int64_t p = 0, start = 0; p < pages; start = ends[p++])
        if (ends[p] - start > longest) longest = ends[p] - start;
    return longest;
}

/* text: `pages` pages end to end, lower-cased UTF-8; ends [pages]; is_letter: bitmap of \w by code
   point; weights [folds, features]; folds [pages]; products, squares [pages]. 0, or 1 where there
   is no memory. */
int page_scores(const uint8_t *text, const int64_t *ends, int64_t pages, const uint8_t *is_letter,
                const int32_t *weights, const int64_t *folds, int64_t features, int64_t ngrams,
                int64_t *products, int64_t *squares) {
    int64_t longest = longest_of(ends, pages);
    int64_t most = slots_for((longest / 3 + 1) * ngrams, features);
    uint8_t *joined = malloc(longest + 1);
    Word *words = malloc((longest / 3 + 1) * sizeof(Word));
    uint32_t *found = malloc((longest / 3 + 1) * ngrams * sizeof(uint32_t));
    Slot *slots = calloc(most, sizeof(Slot));
    int failed = !joined || !words || !found || !slots;
    for (int64_t p = 0, start = 0; !failed && p < pages; start = ends[p++]) {
        const int32_t *mine = weights + folds[p] * features;
        int64_t product = 0, square = 0;
        int64_t number = words_of(text + start, ends[p] - start, is_letter, joined, words);
        int64_t mask = slots_for(number * ngrams, features) - 1;
        int64_t all = features_of(joined, words, number, ngrams, features, mine, found);
        for (int64_t i = 0; i < all; i++) {
            int64_t sign = found[i] & 1 ? -1 : 1;
            product += sign * mine[found[i] >> 1];
            count(slots, mask, (uint32_t)p + 1, found[i] >> 1, sign, &square);
        }
        products[p] = product;
        squares[p] = square;
    }
    free(joined), free(words), free(found), free(slots);
    return failed;
}

/* The same pages' n-grams one by one, in the order of the words: as `features_of`, into `out`, which
   has room for a third of the bytes and one more of each page, times `ngrams`; and where each page's
   end, into `out_ends`. 0, or 1 where there is no memory. */
int page_features(const uint8_t *text, const int64_t *ends, int64_t pages, const uint8_t *is_letter,
                  int64_t features, int64_t ngrams, uint32_t *out, int64_t *out_ends) {
    int64_t longest = longest_of(ends, pages), count = 0;
    uint8_t *joined = malloc(longest + 1);
    Word *words = malloc((longest / 3 + 1) * sizeof(Word));
    int failed = !joined || !words;
    for (int64_t p = 0, start = 0; !failed && p < pages; start = ends[p++]) {
        int64_t number = words_of(text + start, ends[p] - start, is_letter, joined, words);
        count += features_of(joined, words, number, ngrams, features, NULL, out + count);
        out_ends[p] = count;
    }
    free(joined), free(words);
    return failed;
}
