/* glam/data/unigram.py: text to tokens by a unigram model, as SentencePiece cuts it, to the bit.

   SentencePiece adds the scores of a path from the beginning of a text in float32. What that rounds
   may decide between two paths, so a word is not cut alike wherever it stands. Text is cut apart
   where no piece goes over, and of a short stretch the best path is remembered with its distance to
   the second best. Where that is more than rounding can make of it, the best path is the one that
   SentencePiece finds; elsewhere the stretch is cut anew from the score at its beginning. */

#define MOST_BYTES 24  /* of a stretch that is remembered */
#define MOST_PIECES 8
#define AHEAD 16       /* stretches whose memory is asked for before they are looked up */
#define FARTHEST 1e5f  /* from 0 that a score goes before SentencePiece counts from 0 again */
#define UNIT 1.1920929e-7 /* 2**-23, the distance of a float from the next by its size */

typedef struct {
    uint64_t text[MOST_BYTES / 8]; /* behind its end 0 */
    uint32_t tokens[MOST_PIECES];
    float margin; /* from the best path to the second best */
    uint8_t length, count;
} Stretch; /* a cache line; length 0: empty */

typedef struct {
    const uint32_t *first; /* children of node i: first[i] up to below first[i + 1] */
    const int32_t *tokens; /* by node; -1: no piece ends here */
    const uint8_t *labels; /* by node: the byte that leads to it */
    const float *worth;    /* by token, of pieces */
    const uint8_t *joined; /* bitmap of pairs of bytes that stand side by side in a piece */
    const uint32_t *bytes; /* tokens of bytes */
    float unknown;         /* what a character without a piece is worth */
    double most;           /* the largest size of what a piece is worth */
    int32_t unknown_token;
} Unigram;

typedef struct {
    float score;
    int32_t from, token;
} Place; /* the best path that ends here */

_Static_assert(sizeof(Stretch) == 64 && sizeof(Place) == 12, "unigram.py makes room for them");

/* The trie of `count` pieces in ascending order of their bytes, breadth first. `low`, `high`,
   `depth`: scratch. All have room for a node for each byte, and two. Returns the nodes. */
int64_t unigram_trie(const uint8_t *text, const int64_t *starts, const int32_t *tokens, int64_t count,
                     uint32_t *first, int32_t *ends, uint8_t *labels, int32_t *low, int32_t *high,
                     int32_t *depth) {
    int64_t nodes = 1;
    low[0] = 0, high[0] = (int32_t)count, depth[0] = 0, labels[0] = 0;
    for (int64_t v = 0; v < nodes; v++) {
        int64_t at = low[v], end = high[v], d = depth[v];
        first[v] = (uint32_t)nodes;
        ends[v] = -1;
        if (at < end && starts[at + 1] - starts[at] == d) ends[v] = tokens[at++];
        while (at < end) {
            uint8_t label = text[starts[at] + d];
            labels[nodes] = label, low[nodes] = (int32_t)at, depth[nodes] = (int32_t)d + 1;
            while (at < end && text[starts[at] + d] == label) at++;
            high[nodes++] = (int32_t)at;
        }
    }
    first[nodes] = (uint32_t)nodes;
    return nodes;
}

/* The child of a node by a byte; 0: none. */
static inline uint32_t child(const Unigram *model, uint32_t node, uint8_t byte) {
    uint32_t at = model->first[node], end = model->first[node + 1];
    if (end - at > 8) {
        const uint8_t *found = memchr(model->labels + at, byte, end - at);
        return found ? (uint32_t)(found - model->labels) : 0;
    }
    for (; at < end; at++)
        if (model->labels[at] == byte) return at;
    return 0;
}

static inline int64_t character(const uint8_t *text, int64_t left) {
    int64_t size = *text < 0xc0 ? 1 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : 4;
    return size < left ? size : left;
}

/* SentencePiece's own steps (EncodeOptimized of 0.2.3), in float32. */
static void best_paths(const Unigram *model, const uint8_t *text, int64_t n, float start,
                       Place *places) {
    for (int64_t i = 0; i <= n; i++) places[i].from = -1;
    places[0].score = start;
    for (int64_t at = 0, farthest = 0, size; at < n; at += size) {
        float here = places[at].score;
        if (fabsf(here) > FARTHEST) {
            for (int64_t i = at; i <= farthest; i++)
                if (i == at || places[i].from >= 0) places[i].score -= here;
            here = 0;
        }
        int whole = 0;
        uint32_t node = 0;
        size = character(text + at, n - at);
        for (int64_t end = at; end < n && (node = child(model, node, text[end]));) {
            int32_t token = model->tokens[node];
            end++;
            if (token < 0) continue;
            if (end > farthest) farthest = end;
            float score = model->worth[token] + here;
            if (places[end].from < 0 || score > places[end].score)
                places[end] = (Place){score, (int32_t)at, token};
            whole |= end - at == size;
        }
        Place *next = places + at + size;
        float score = model->unknown + here;
        if (!whole && at + size > farthest) farthest = at + size;
        if (!whole && (next->from < 0 || score > next->score))
            *next = (Place){score, (int32_t)at, model->unknown_token};
    }
}

/* The tokens of the best path to the end; a character without a piece is its bytes. */
static int64_t tokens_of(const Unigram *model, const uint8_t *text, int64_t n, const Place *places,
                         uint32_t *out) {
    int64_t count = 0;
    for (int64_t end = n; end > 0; end = places[end].from)
        count += places[end].token == model->unknown_token ? end - places[end].from : 1;
    int64_t at = count;
    for (int64_t end = n; end > 0; end = places[end].from) {
        if (places[end].token == model->unknown_token)
            for (int64_t i = end; i > places[end].from; i--) out[--at] = model->bytes[text[i - 1]];
        else
            out[--at] = (uint32_t)places[end].token;
    }
    return count;
}

/* The distance from the best path to the second best, as real numbers, and the best path's pieces
   into `found`. 0 where it cannot be remembered: it has too many pieces, or unknown characters. */
static int two_best(const Unigram *model, const uint8_t *text, int64_t n, Stretch *found) {
    double best[MOST_BYTES + 1], second[MOST_BYTES + 1];
    int8_t from[MOST_BYTES + 1];
    int32_t tokens[MOST_BYTES + 1];
    for (int64_t i = 0; i <= n; i++) best[i] = second[i] = -INFINITY;
    best[0] = 0;
    for (int64_t at = 0, size; at < n; at += size) {
        int whole = 0;
        uint32_t node = 0;
        size = character(text + at, n - at);
        for (int64_t end = at; end < n && (node = child(model, node, text[end]));) {
            int32_t token = model->tokens[node];
            end++;
            if (token < 0) continue;
            double score = best[at] + model->worth[token], other = second[at] + model->worth[token];
            if (score > best[end]) {
                second[end] = best[end] > other ? best[end] : other;
                best[end] = score, from[end] = (int8_t)at, tokens[end] = token;
            } else if (score > second[end]) {
                second[end] = score;
            }
            whole |= end - at == size;
        }
        if (!whole) return 0;
    }
    found->count = 0;
    for (int64_t end = n; end > 0; end = from[end])
        if (++found->count > MOST_PIECES) return 0;
    int64_t at = found->count;
    for (int64_t end = n; end > 0; end = from[end]) found->tokens[--at] = (uint32_t)tokens[end];
    found->margin = (float)((best[n] - second[n]) * (1 - 1e-6) - 1e-9);
    return 1;
}

/* The first place behind `at` that no piece goes over. */
static inline int64_t stretch_end(const Unigram *model, const uint8_t *text, int64_t at, int64_t end) {
    uint8_t before = text[at++];
    for (; at < end; at++) {
        uint8_t byte = text[at];
        int is_joined = model->joined[before * 32 + (byte >> 3)] >> (byte & 7) & 1;
        if (!is_joined && (byte & 0xc0) != 0x80) break;
        before = byte;
    }
    return at;
}

/* Where SentencePiece's own sign for a space, U+2581, comes next; `end`: nowhere. */
static int64_t sign_in(const uint8_t *text, int64_t at, int64_t end) {
    while (at < end) {
        const uint8_t *found = memchr(text + at, 0xe2, end - at);
        if (!found) return end;
        at = found - text;
        if (end - at > 2 && found[1] == 0x96 && found[2] == 0x81) return at;
        at++;
    }
    return end;
}

/* A stretch on its way: where it is, its bytes, and its slot, which memory brings meanwhile. */
typedef struct {
    int64_t at, length;
    uint64_t text[MOST_BYTES / 8];
    Stretch *slot;
} Coming;

/* The first `n` bytes of a stretch of at most MOST_BYTES, and 0 behind them. */
static inline void stretch_bytes(const uint8_t *text, int64_t n, uint64_t *out) {
    static const uint8_t masks[2 * MOST_BYTES] = {[0 ... MOST_BYTES - 1] = 0xff};
    uint64_t mask[MOST_BYTES / 8];
    memcpy(mask, masks + MOST_BYTES - n, MOST_BYTES);
    memcpy(out, text, MOST_BYTES);
    for (int i = 0; i < MOST_BYTES / 8; i++) out[i] &= mask[i];
}

/* The next stretches of text[at..end), at most AHEAD; returns how many. */
static int coming(const Unigram *model, const uint8_t *text, int64_t at, int64_t end, Stretch *known,
                  uint64_t mask, Coming *next) {
    int count = 0;
    for (; at < end && count < AHEAD; count++) {
        Coming *one = next + count;
        int64_t until = stretch_end(model, text, at, end);
        one->at = at, one->length = until - at, at = until;
        if (one->length > MOST_BYTES) continue;
        stretch_bytes(text + one->at, one->length, one->text);
        uint64_t hash = one->text[0] ^ mixed(one->text[1] ^ mixed(one->text[2]));
        one->slot = known + (mixed(hash + (uint64_t)one->length) & mask);
        __builtin_prefetch(one->slot);
    }
    return count;
}

/* The slot of a stretch, with how it is cut. */
static inline const Stretch *remembered(const Unigram *model, const uint8_t *text, const Coming *one) {
    Stretch *slot = one->slot;
    if (slot->length != one->length || memcmp(slot->text, one->text, sizeof one->text)) {
        memcpy(slot->text, one->text, sizeof one->text);
        slot->length = (uint8_t)one->length;
        if (!two_best(model, text + one->at, one->length, slot)) slot->margin = -1;
    }
    return slot;
}

/* Whether no rounding makes another path the best one: each of at most `n` sums is rounded by half
   a unit of the largest, on either path. */
static inline int is_sure(const Unigram *model, const Stretch *slot, int64_t n, float score) {
    double largest = fabs((double)score) + n * model->most;
    return largest < FARTHEST && slot->margin > n * largest * UNIT;
}

static int64_t encode_part(const Unigram *model, const uint8_t *text, int64_t at, int64_t end,
                           Stretch *known, uint64_t mask, Place *places, uint32_t *out) {
    int64_t count = 0;
    float score = 0;
    Coming next[AHEAD];
    while (at < end) {
        int found = coming(model, text, at, end, known, mask, next);
        for (Coming *one = next; one < next + found; one++) {
            int64_t n = one->length;
            const Stretch *slot = n > MOST_BYTES ? NULL : remembered(model, text, one);
            at = one->at + n;
            if (slot && is_sure(model, slot, n, score)) {
                for (int i = 0; i < slot->count; i++) {
                    out[count++] = slot->tokens[i];
                    score += model->worth[slot->tokens[i]];
                }
                continue;
            }
            best_paths(model, text + one->at, n, score, places);
            count += tokens_of(model, text + one->at, n, places, out + count);
            score = places[n].score;
        }
    }
    return count;
}

/* Each of `texts`, which end at `ends`, as `begin` and its tokens, into `out`, and where those end
   into `out_ends`. U+2581, which no piece stands for here, parts a text and is its bytes. `places`:
   room for the longest text's bytes and one. `known`: 2**n slots for stretches. Behind the last
   text lie MOST_BYTES more. */
void unigram_encode(const uint8_t *text, const int64_t *ends, int64_t texts, uint32_t begin,
                    const uint32_t *first, const int32_t *tokens, const uint8_t *labels,
                    const float *worth, const uint8_t *joined, const uint32_t *bytes, float unknown,
                    double most, int32_t unknown_token, Stretch *known, int64_t slots, Place *places,
                    uint32_t *out, int64_t *out_ends) {
    Unigram model = {first, tokens, labels, worth, joined, bytes, unknown, most, unknown_token};
    int64_t at = 0, count = 0;
    for (int64_t t = 0; t < texts; t++) {
        out[count++] = begin;
        for (int64_t part; at < ends[t]; at = part) {
            int64_t sign = part = sign_in(text, at, ends[t]);
            count += encode_part(&model, text, at, part, known, (uint64_t)slots - 1, places,
                                 out + count);
            if (sign < ends[t])
                while (part < sign + 3) out[count++] = bytes[text[part++]];
        }
        out_ends[t] = count;
    }
}
