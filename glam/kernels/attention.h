/* Causal attention with a bias by distance, in bfloat16, a head at a time: what lies between its
 * products stays in the cache. Queries go in chunks of STEP, each with the keys up to its end;
 * sizes are filled up with zeros to multiples of STEP. `qkv` is [batch, length, 3, heads, width],
 * outputs are [batch, length, heads, width], `bias` and `mask` as for attention_weights. Weights are kept
 * chunk by chunk, so that a head has `weights_of_head` of them. */

/* A head's sizes, filled up, and a thread's buffers for it. */
struct head {
    i64 S, D; /* length and width */
    bf16 *q, *k, *v, *d_y, *row;
    uint32_t *k_across, *v_across, *pairs, *k_pairs, *v_pairs, *down;
    float *product, *out, *d_k, *d_v;
};

static i64 filled(i64 size) { return (size + STEP - 1) / STEP * STEP; }

static i64 weights_before(i64 chunk) { return STEP * STEP * (chunk * (chunk + 1) / 2); }

/* Returns what to free, NULL where there is no memory. */
static char *make_head(struct head *head, i64 length, i64 width) {
    i64 S = head->S = filled(length), D = head->D = filled(width);
    i64 bytes = 2 * (4 * S * D + STEP * S) + 4 * (4 * S * D / 2 + STEP * S + STEP * D) +
                4 * (STEP * S + STEP * D + 2 * S * D);
    char *all = aligned_alloc(64, (bytes + 16 * 64 + 63) / 64 * 64), *at = all;
    if (!all) return NULL;
    head->q = carve(&at, 2 * S * D);
    head->k = carve(&at, 2 * S * D);
    head->v = carve(&at, 2 * S * D);
    head->d_y = carve(&at, 2 * S * D);
    head->row = carve(&at, 2 * STEP * S);
    head->k_across = carve(&at, 2 * S * D);
    head->v_across = carve(&at, 2 * S * D);
    head->k_pairs = carve(&at, 2 * S * D);
    head->v_pairs = carve(&at, 2 * S * D);
    head->down = carve(&at, 4 * STEP * S);
    head->pairs = carve(&at, 2 * STEP * D);
    head->product = carve(&at, 4 * STEP * S);
    head->out = carve(&at, 4 * STEP * D);
    head->d_k = carve(&at, 4 * S * D);
    head->d_v = carve(&at, 4 * S * D);
    return all;
}

/* Rows of `width`, `apart` from each other, to rows without gaps, and zeros around. */
static void take(const bf16 *from, bf16 *to, i64 apart, i64 length, i64 width, i64 S, i64 D) {
    memset(to, 0, S * D * sizeof(bf16));
    for (i64 i = 0; i < length; i++) memcpy(to + i * D, from + i * apart, width * sizeof(bf16));
}

/* Of `qkv` from a head's first query on. */
static void take_head(struct head *head, const bf16 *q, i64 heads, i64 length, i64 width) {
    i64 all = heads * width;
    take(q, head->q, 3 * all, length, width, head->S, head->D);
    take(q + all, head->k, 3 * all, length, width, head->S, head->D);
    take(q + 2 * all, head->v, 3 * all, length, width, head->S, head->D);
}

static void give(const float *from, bf16 *to, i64 apart, i64 rows, i64 width, i64 D) {
    for (i64 i = 0; i < rows; i++)
#pragma omp simd
        for (i64 j = 0; j < width; j++) to[i * apart + j] = narrow_bf16(from[i * D + j]);
}

/* [S, D] of 16 bits to the pairs of its transpose, [D / 2, S]. */
static void across(const bf16 *x, uint32_t *out, i64 S, i64 D) {
    transpose((const uint32_t *)x, out, S, D / 2);
}

/* The weights of a chunk [STEP, keys] of queries from `first` on, of their products with keys. */
static void weights_of_chunk(float *product, bf16 *weights, const float *bias, const bf16 *mask,
                             i64 first, i64 length, i64 window, float scale) {
    i64 keys = first + STEP;
    for (i64 i = 0; i < STEP; i++) {
        i64 query = first + i, far, known = keys < length ? keys : length;
        float *x = product + i * keys;
        bf16 *row = weights + i * keys;
        if (query >= length) {
            memset(row, 0, keys * sizeof(bf16));
            continue;
        }
        reach(query, window, &far);
        const float *b = bias + window + PAD - (query + 1);
#pragma omp simd
        for (i64 j = 0; j < far; j++) x[j] *= scale;
#pragma omp simd
        for (i64 j = far; j < keys; j++) x[j] = x[j] * scale + b[j];
        if (mask) {
            const bf16 *m = mask + query * length;
#pragma omp simd
            for (i64 j = 0; j < known; j++) x[j] += widen_bf16(m[j]);
        }
        float share = exponentials(x, keys);
#pragma omp simd
        for (i64 j = 0; j < keys; j++) row[j] = narrow_bf16(x[j] * share);
    }
}

/* The gradient of a chunk's products [STEP, keys], of that of its weights; `d_bias` is added to. */
static void chunk_backward(const float *d_weights, const bf16 *weights, bf16 *d, float *d_bias,
                           i64 first, i64 length, i64 window, float scale) {
    i64 keys = first + STEP;
    for (i64 i = 0; i < STEP; i++) {
        i64 query = first + i, far;
        const float *dw = d_weights + i * keys;
        const bf16 *w = weights + i * keys;
        bf16 *out = d + i * keys;
        if (query >= length) {
            memset(out, 0, keys * sizeof(bf16));
            continue;
        }
        reach(query, window, &far);
        float *b = d_bias + window + PAD - (query + 1), mean = 0.0f;
#pragma omp simd reduction(+ : mean)
        for (i64 j = 0; j < keys; j++) mean += widen_bf16(w[j]) * dw[j];
#pragma omp simd
        for (i64 j = 0; j < far; j++)
            out[j] = narrow_bf16(scale * widen_bf16(w[j]) * (dw[j] - mean));
#pragma omp simd
        for (i64 j = far; j < keys; j++) {
            float logit = widen_bf16(w[j]) * (dw[j] - mean);
            b[j] += logit;
            out[j] = narrow_bf16(scale * logit);
        }
    }
}

static void head_forward(struct head *head, const float *bias, const bf16 *mask, bf16 *weights,
                         bf16 *y, i64 apart, i64 length, i64 width, i64 window, float scale) {
    i64 S = head->S, D = head->D;
    across(head->k, head->k_across, S, D);
    pairs_of(head->v, head->v_pairs, S, D);
    for (i64 first = 0; first < S; first += STEP) {
        i64 keys = first + STEP, rows = length - first < STEP ? length - first : STEP;
        bf16 *kept = weights + weights_before(first / STEP);
        multiply(head->q + first * D, D, head->k_across, S, head->product, keys, STEP, keys, D, 0);
        weights_of_chunk(head->product, kept, bias, mask, first, length, window, scale);
        multiply(kept, keys, head->v_pairs, D, head->out, D, STEP, D, keys, 0);
        give(head->out, y + first * apart, apart, rows, width, D);
    }
}

/* a [STEP, keys] transposed, times b [STEP, D], on top of `total` [keys, D]. */
static void add_transposed(struct head *head, const bf16 *a, const bf16 *b, float *total,
                           i64 keys) {
    uint32_t *turned = head->down + STEP / 2 * keys;
    pairs_of(a, head->down, STEP, keys);
    transpose(head->down, turned, STEP / 2, keys);
    pairs_of(b, head->pairs, STEP, head->D);
    multiply((bf16 *)turned, STEP, head->pairs, head->D, total, head->D, keys, head->D, STEP, 1);
}

static void head_backward(struct head *head, const bf16 *weights, float *d_bias, bf16 *d_q,
                          i64 apart, i64 length, i64 width, i64 window, float scale) {
    i64 S = head->S, D = head->D;
    across(head->v, head->v_across, S, D);
    pairs_of(head->k, head->k_pairs, S, D);
    memset(head->d_k, 0, S * D * sizeof(float));
    memset(head->d_v, 0, S * D * sizeof(float));
    for (i64 first = 0; first < S; first += STEP) {
        i64 keys = first + STEP, rows = length - first < STEP ? length - first : STEP;
        const bf16 *kept = weights + weights_before(first / STEP), *d_y = head->d_y + first * D;
        multiply(d_y, D, head->v_across, S, head->product, keys, STEP, keys, D, 0);
        chunk_backward(head->product, kept, head->row, d_bias, first, length, window, scale);
        multiply(head->row, keys, head->k_pairs, D, head->out, D, STEP, D, keys, 0);
        give(head->out, d_q + first * apart, apart, rows, width, D);
        add_transposed(head, head->row, head->q + first * D, head->d_k, keys);
        add_transposed(head, kept, d_y, head->d_v, keys);
    }
}

/* Weights that a head keeps. */
i64 weights_of_head(i64 length) { return weights_before(filled(length) / STEP); }

int attention_forward(const bf16 *qkv, const float *bias, const bf16 *mask, bf16 *weights, bf16 *y,
                      i64 batch, i64 length, i64 heads, i64 width, i64 window, float scale,
                      int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct head head;
        char *all = make_head(&head, length, width);
        failed = !all;
        begin_products();
#pragma omp for
        for (i64 i = 0; i < batch * heads; i++) {
            i64 b = i / heads, n = i % heads;
            const bf16 *q = qkv + b * length * 3 * heads * width + n * width;
            if (!all) continue;
            take_head(&head, q, heads, length, width);
            head_forward(&head, bias + n * (window + 2 * PAD),
                         mask ? mask + b * length * length : NULL,
                         weights + i * weights_of_head(length),
                         y + (b * length * heads + n) * width, heads * width, length, width, window,
                         scale);
        }
        end_products();
        free(all);
    }
    return failed;
}

/* `d_bias` is [batch * heads, PAD + window + PAD], zeros at first. */
int attention_backward(const bf16 *qkv, const bf16 *d_y, const bf16 *weights, float *d_bias,
                       bf16 *d_qkv, i64 batch, i64 length, i64 heads, i64 width, i64 window,
                       float scale, int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct head head;
        char *all = make_head(&head, length, width);
        failed = !all;
        begin_products();
#pragma omp for
        for (i64 i = 0; i < batch * heads; i++) {
            i64 b = i / heads, n = i % heads, apart = 3 * heads * width;
            i64 at = b * length * apart + n * width;
            if (!all) continue;
            take_head(&head, qkv + at, heads, length, width);
            take(d_y + (b * length * heads + n) * width, head.d_y, heads * width, length, width,
                 head.S, head.D);
            head_backward(&head, weights + i * weights_of_head(length),
                          d_bias + i * (window + 2 * PAD), d_qkv + at, apart, length, width, window,
                          scale);
            give(head.d_k, d_qkv + at + heads * width, apart, length, width, head.D);
            give(head.d_v, d_qkv + at + 2 * heads * width, apart, length, width, head.D);
        }
        end_products();
        free(all);
    }
    return failed;
}
