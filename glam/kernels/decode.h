/* A decoding step of the whole model (paper, section 4), for a few rows in float32: each row is the
 * next position of a text. Keys and values of earlier positions are kept, and every weight that a
 * row uses is read once. A row's result does not depend on the other rows. */

#define DECODE_BLOCK 512             /* columns of a product that stay in the L1 cache */
#define NARROW_UP_TO 256 /* columns of a weight that is read strip by strip */
#define DECODE_PARALLEL_FROM 262144 /* elements of a weight or of keys: fewer are read by one thread */

#ifdef __AVX512F__
#define STRIP 64 /* columns of a packed weight whose sums are in registers */
#else
#define STRIP 32
#endif

#include "lanes.h"

#define T float
#define OF(name) name##_f32
#include "product.inc"
#include "product_t.inc"
#include "packed.inc"
#undef T
#undef OF
#define T bf16
#define OF(name) name##_bf16
#include "product.inc"
#include "product_t.inc"
#include "packed.inc"
#undef T
#undef OF
#define T int8_t
#define OF(name) name##_i8
#include "product.inc"
#undef T
#undef OF

/* Element types of weights. */
enum { IS_F32, IS_BF16, IS_I8, IS_PACKED_F32, IS_PACKED_BF16 };

static int is_bf16(i64 type) { return type == IS_BF16 || type == IS_PACKED_BF16; }

/* What `sizes` holds. Types are those above, `dense_type` of all matrices but the experts'. */
enum {
    LAYERS, WIDTH, HEADS, HEAD, EXPERTS, TOP_K, HIDDEN, VOCABULARY, CACHE_ROWS, CACHE_LENGTH,
    NORMALIZE, DENSE_TYPE, EXPERT_TYPE, NUM_SIZES
};

/* What `weights` holds of each layer: addresses, and the hidden size of a feed-forward without
 * experts. Norms and the router are float32. 0 stands for what a layer does not have. After the
 * last layer come the embedding, never packed, the last norm, and the transpose of the embedding,
 * packed, or 0. */
enum {
    ATTENTION_NORM, QUERY, KEY, VALUE, ATTENTION_OUT, FFN_NORM, ROUTER, ROUTER_BIAS, CHOICE_BIAS,
    FFN_GATE, FFN_IN, FFN_OUT, FFN_HIDDEN, PER_LAYER
};

/* What `experts` holds of each expert: addresses of its matrices and, in int8, of the scales of
 * their columns. An expert without an address is left out. */
enum { EXPERT_IN, EXPERT_OUT, SCALE_IN, SCALE_OUT, PER_EXPERT };

static void product(const float *x, i64 w, i64 type, float *y, i64 rows, i64 n, i64 m,
                    int threads) {
    if (type == IS_F32) product_f32(x, (const float *)w, y, rows, n, m, threads);
    if (type == IS_BF16) product_bf16(x, (const bf16 *)w, y, rows, n, m, threads);
    if (type == IS_I8) product_i8(x, (const int8_t *)w, y, rows, n, m, threads);
    if (type == IS_PACKED_F32) product_packed_f32(x, (const float *)w, y, rows, n, m, threads);
    if (type == IS_PACKED_BF16) product_packed_bf16(x, (const bf16 *)w, y, rows, n, m, threads);
}

/* A product whose columns are scaled, where there is a scale [m]. */
static void scaled_product(const float *x, i64 w, i64 scale, i64 type, float *y, i64 rows, i64 n,
                           i64 m, int threads) {
    product(x, w, type, y, rows, n, m, threads);
    const float *by = (const float *)scale;
    if (!by) return;
    for (i64 r = 0; r < rows; r++)
        for (i64 j = 0; j < m; j++) y[r * m + j] *= by[j];
}

/* y [rows, M] = the RMS norm of x, times scale [M]. */
static void decode_norm(const float *x, i64 scale, float *y, i64 rows, i64 M) {
    const float *by = (const float *)scale;
    for (i64 r = 0; r < rows; r++) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < M; i++) sum += x[r * M + i] * x[r * M + i];
        float inverse = 1.0f / sqrtf(sum / M + 1e-6f);
        for (i64 i = 0; i < M; i++) y[r * M + i] = x[r * M + i] * inverse * by[i];
    }
}

static void add(float *restrict x, const float *restrict y, float by, i64 n) {
#pragma omp simd
    for (i64 i = 0; i < n; i++) x[i] += by * y[i];
}

/* Workspace of a step, all of it in `scratch`. */
struct decode_space {
    float *x, *normal, *query, *key, *value, *attended, *hidden, *gate, *out, *logits, *scores;
};

static struct decode_space decode_space(float *scratch, const i64 *sizes, i64 rows) {
    i64 M = sizes[WIDTH], A = sizes[HEADS] * sizes[HEAD], H = sizes[HIDDEN] * sizes[TOP_K];
    if (H < M) H = M;
    struct decode_space at;
    at.x = scratch;
    at.normal = at.x + rows * M;
    at.query = at.normal + rows * M;
    at.key = at.query + rows * A;
    at.value = at.key + rows * A;
    at.attended = at.value + rows * A;
    at.hidden = at.attended + rows * A;
    at.gate = at.hidden + rows * H;
    at.out = at.gate + rows * H;
    at.logits = at.out + rows * M;
    at.scores = at.logits + rows * 2 * sizes[EXPERTS];
    return at;
}

#define T float
#define OF(name) name##_f32
#include "attend.inc"
#undef T
#undef OF
#define T bf16
#define OF(name) name##_bf16
#include "attend.inc"
#undef T
#undef OF

/* Attention of a layer, added to x. keys [layers, cache rows, N, positions / LANES, D, LANES], in
 * pairs of dimensions (see lanes.h), the last with zeros where D is odd; values [layers, cache rows,
 * N, positions, D rounded up to LANES], in pairs of positions. Both have the type of the dense
 * matrices, and every element is a number, whether it was written or not. bias [layers, N,
 * positions + LANES] is by distance, the farthest first, with -infinity for positions ahead. */
static void decode_attention(struct decode_space at, const i64 *texts, const i64 *positions,
                             const i64 *sizes, const i64 *weights, void *keys, void *values,
                             const float *bias, i64 rows, i64 layer, int threads) {
    i64 M = sizes[WIDTH], D = sizes[HEAD], A = sizes[HEADS] * D, type = sizes[DENSE_TYPE];
    const i64 *w = weights + layer * PER_LAYER;
    decode_norm(at.x, w[ATTENTION_NORM], at.normal, rows, M);
    product(at.normal, w[QUERY], type, at.query, rows, M, A, threads);
    product(at.normal, w[KEY], type, at.key, rows, M, A, threads);
    product(at.normal, w[VALUE], type, at.value, rows, M, A, threads);
    if (is_bf16(type))
        decode_heads_bf16(at, texts, positions, sizes, keys, values, bias, rows, layer, threads);
    else
        decode_heads_f32(at, texts, positions, sizes, keys, values, bias, rows, layer, threads);
    product(at.attended, w[ATTENTION_OUT], type, at.out, rows, A, M, threads);
    add(at.x, at.out, 1.0f, rows * M);
}

/* The experts of each row and their gates, [rows, K]. A choice after the first whose gate is at
 * most `threshold` has gate 0 and is not used; the others stay as they are. */
static void decode_route(struct decode_space at, const i64 *sizes, const i64 *w, i64 *chosen,
                         float *gates, i64 rows, float threshold) {
    i64 M = sizes[WIDTH], E = sizes[EXPERTS], K = sizes[TOP_K];
    const float *bias = (const float *)w[ROUTER_BIAS];
    product_f32(at.normal, (const float *)w[ROUTER], at.logits, rows, M, E, 1);
    for (i64 r = 0; r < rows; r++) add(at.logits + r * E, bias, 1.0f, E);
    route(at.logits, (const float *)w[CHOICE_BIAS], chosen, gates, at.logits + rows * E, rows, E, K,
          sizes[NORMALIZE], 1);
    for (i64 i = 0; i < rows * K; i++)
        if (i % K && gates[i] <= threshold) gates[i] = 0.0f;
}

/* The experts that rows chose, each for all of its rows, added to x. */
static void decode_experts(struct decode_space at, const i64 *sizes, const i64 *experts,
                           const i64 *chosen, const float *gates, i64 rows, int threads) {
    i64 M = sizes[WIDTH], H = sizes[HIDDEN], K = sizes[TOP_K], type = sizes[EXPERT_TYPE];
    for (i64 e = 0; e < sizes[EXPERTS]; e++) {
        const i64 *w = experts + e * PER_EXPERT;
        i64 count = 0;
        if (!w[EXPERT_IN]) continue; /* not loaded: its turn is another call's */
        for (i64 i = 0; i < rows * K; i++)
            if (chosen[i] == e && gates[i] != 0.0f)
                memcpy(at.gate + count++ * M, at.normal + i / K * M, M * sizeof(float));
        if (!count) continue;
        scaled_product(at.gate, w[EXPERT_IN], w[SCALE_IN], type, at.hidden, count, M, H, threads);
        for (i64 i = 0; i < count * H; i++) at.hidden[i] = gelu(at.hidden[i]);
        scaled_product(at.hidden, w[EXPERT_OUT], w[SCALE_OUT], type, at.out, count, H, M, threads);
        count = 0;
        for (i64 i = 0; i < rows * K; i++)
            if (chosen[i] == e && gates[i] != 0.0f)
                add(at.x + i / K * M, at.out + count++ * M, gates[i], M);
    }
}

/* A feed-forward without experts, added to x: GEGLU where there is a gate. */
static void decode_feed_forward(struct decode_space at, const i64 *sizes, const i64 *w, i64 rows,
                                int threads) {
    i64 M = sizes[WIDTH], H = w[FFN_HIDDEN], type = sizes[DENSE_TYPE], n = rows * H;
    product(at.normal, w[FFN_IN], type, at.hidden, rows, M, H, threads);
    if (w[FFN_GATE]) product(at.normal, w[FFN_GATE], type, at.gate, rows, M, H, threads);
    if (w[FFN_GATE])
        for (i64 i = 0; i < n; i++) at.hidden[i] *= gelu(at.gate[i]);
    else
        for (i64 i = 0; i < n; i++) at.hidden[i] = gelu(at.hidden[i]);
    product(at.hidden, w[FFN_OUT], type, at.out, rows, H, M, threads);
    add(at.x, at.out, 1.0f, rows * M);
}

/* x [rows, M] = the embeddings of the tokens, times sqrt(M). */
static void decode_embed(float *x, const i64 *tokens, i64 embedding, i64 type, i64 rows, i64 M) {
    float by = sqrtf((float)M);
    for (i64 r = 0; r < rows; r++)
        for (i64 i = 0; i < M; i++) {
            i64 from = tokens[r] * M + i;
            x[r * M + i] = by * (is_bf16(type) ? widen_bf16(((const bf16 *)embedding)[from])
                                              : ((const float *)embedding)[from]);
        }
}

/* logits [outputs, V] of the rows whose `wanted` [rows] is not 0, one after the other. */
static void decode_logits(struct decode_space at, const i64 *sizes, const i64 *w, const i64 *wanted,
                          float *logits, i64 rows, float cap, int threads) {
    i64 M = sizes[WIDTH], V = sizes[VOCABULARY], outputs = 0;
    for (i64 r = 0; r < rows; r++)
        if (wanted[r]) memmove(at.x + outputs++ * M, at.x + r * M, M * sizeof(float));
    decode_norm(at.x, w[1], at.normal, outputs, M);
    int narrow = is_bf16(sizes[DENSE_TYPE]);
    if (w[2])
        product(at.normal, w[2], narrow ? IS_PACKED_BF16 : IS_PACKED_F32, logits, outputs, M, V,
                threads);
    else if (narrow)
        product_t_bf16(at.normal, (const bf16 *)w[0], logits, outputs, M, V, threads);
    else
        product_t_f32(at.normal, (const float *)w[0], logits, outputs, M, V, threads);
    if (cap > 0.0f)
        for (i64 i = 0; i < outputs * V; i++) logits[i] = cap * tanh_(logits[i] / cap);
}

/* Stages [first, last) of a step for `rows` rows, in which a row at position p of the text in cache
 * row `texts` has token `tokens`; rows of one text are in order. Stage 2 l is the attention of
 * layer l and its choice of experts, into chosen [rows, K] and gates [rows, K]; stage 2 l + 1 its
 * feed-forward; stage 2 L the logits. Between calls the state is in `scratch`, for whose size see
 * `decode_space`: `scores` is [threads, cache length + D rounded up to LANES]. Returns OUTSIDE for a
 * token, text or position that there is not. Reference: reference_decode. */
int decode(const i64 *tokens, const i64 *texts, const i64 *positions, const i64 *wanted,
           const i64 *sizes, const i64 *weights, const i64 *experts, void *keys, void *values,
           const float *bias, float *scratch, i64 *chosen, float *gates, float *logits, i64 rows,
           i64 first, i64 last, float cap, float threshold, int threads) {
    if (outside(tokens, rows, sizes[VOCABULARY], 0, 1) ||
        outside(texts, rows, sizes[CACHE_ROWS], 0, 1) ||
        outside(positions, rows, sizes[CACHE_LENGTH], 0, 1) || first < 0 ||
        last > 2 * sizes[LAYERS] + 1)
        return OUTSIDE;
    struct decode_space at = decode_space(scratch, sizes, rows);
    i64 L = sizes[LAYERS], M = sizes[WIDTH];
    const i64 *behind = weights + L * PER_LAYER; /* the embedding, the last norm, … */
    for (i64 stage = first; stage < last; stage++) {
        i64 layer = stage / 2;
        const i64 *w = weights + layer * PER_LAYER;
        if (stage == 0) decode_embed(at.x, tokens, behind[0], sizes[DENSE_TYPE], rows, M);
        if (layer == L) {
            decode_logits(at, sizes, behind, wanted, logits, rows, cap, threads);
        } else if (stage % 2 == 0) {
            decode_attention(at, texts, positions, sizes, weights, keys, values, bias, rows, layer,
                             threads);
            decode_norm(at.x, w[FFN_NORM], at.normal, rows, M);
            if (w[ROUTER]) decode_route(at, sizes, w, chosen, gates, rows, threshold);
        } else if (w[ROUTER]) {
            decode_experts(at, sizes, experts + layer * sizes[EXPERTS] * PER_EXPERT, chosen, gates,
                           rows, threads);
        } else {
            decode_feed_forward(at, sizes, w, rows, threads);
        }
    }
    return 0;
}

#include "draw.h"

/* `steps` whole steps of decoding, each of the tokens that the one before it drew (see decode and
 * draw_tokens): numbers [steps, rows], written [steps, rows]. Tokens and positions are left as the
 * next step takes them. Returns 1 where a logit is NaN or infinite, OUTSIDE as `decode` does.
 * Reference: decode and draw_tokens, step by step. */
int decode_ahead(i64 *tokens, const i64 *texts, i64 *positions, const i64 *wanted,
                 const i64 *sizes, const i64 *weights, const i64 *experts, void *keys,
                 void *values, const float *bias, float *scratch, i64 *chosen, float *gates,
                 float *logits, const float *numbers, float *chances, i64 *order, i64 *written,
                 i64 rows, i64 steps, float cap, float threshold, float temperature, float top_p,
                 int threads) {
    for (i64 s = 0; s < steps; s++) {
        if (decode(tokens, texts, positions, wanted, sizes, weights, experts, keys, values, bias,
                   scratch, chosen, gates, logits, rows, 0, 2 * sizes[LAYERS] + 1, cap, threshold,
                   threads))
            return OUTSIDE;
        if (draw_tokens(logits, numbers + s * rows, tokens, chances, order, rows,
                        sizes[VOCABULARY], temperature, top_p, threads))
            return 1;
        memcpy(written + s * rows, tokens, rows * sizeof(i64));
        for (i64 r = 0; r < rows; r++) positions[r]++;
    }
    return 0;
}
