/* Causal attention with a bias by distance, a head at a time: what lies between its products stays
 * in the cache. Included once for each type T, as typed.h. Queries go in chunks of STEP, each with
 * the keys up to its end; sizes are filled up with zeros to multiples of STEP. `qkv` is [batch,
 * length, 3, heads, width], outputs are [batch, length, heads, width], `bias` and `mask` as for
 * attention_weights. Weights are kept chunk by chunk: a head has weights_before(all of them). */

/* A head's sizes, filled up, and a thread's buffers for it. */
struct OF(head) {
    i64 S, D, apart; /* length, width, and between rows of `product` */
    T *q, *k, *v, *d_y, *row, *k_across, *v_across, *k_panels, *v_panels, *scratch;
    float *product, *out, *d_k, *d_v;
};

/* Returns what to free, NULL where there is no memory. */
static char *OF(make_head)(struct OF(head) *head, i64 length, i64 width) {
    i64 S = head->S = filled(length), D = head->D = filled(width);
    i64 whole = S * D * sizeof(T), row = STEP * S * sizeof(T), apart = head->apart = S + ASIDE;
    i64 bytes = 8 * whole + 3 * row + STEP * D * sizeof(T) +
                sizeof(float) * (STEP * apart + STEP * D + 2 * S * D);
    char *all = aligned_alloc(64, (bytes + 16 * 64 + 63) / 64 * 64), *at = all;
    if (!all) return NULL;
    head->q = carve(&at, whole);
    head->k = carve(&at, whole);
    head->v = carve(&at, whole);
    head->d_y = carve(&at, whole);
    head->row = carve(&at, row);
    head->k_across = carve(&at, whole);
    head->v_across = carve(&at, whole);
    head->k_panels = carve(&at, whole);
    head->v_panels = carve(&at, whole);
    head->scratch = carve(&at, 2 * row + STEP * D * sizeof(T));
    head->product = carve(&at, STEP * apart * sizeof(float));
    head->out = carve(&at, STEP * D * sizeof(float));
    head->d_k = carve(&at, S * D * sizeof(float));
    head->d_v = carve(&at, S * D * sizeof(float));
    return all;
}

/* Rows of `width`, `apart` from each other, to rows without gaps, and zeros around. */
static void OF(take)(const T *from, T *to, i64 apart, i64 length, i64 width, i64 S, i64 D) {
    memset(to, 0, S * D * sizeof(T));
    for (i64 i = 0; i < length; i++) memcpy(to + i * D, from + i * apart, width * sizeof(T));
}

/* Of `qkv` from a head's first query on. */
static void OF(take_head)(struct OF(head) *head, const T *q, i64 heads, i64 length, i64 width) {
    i64 all = heads * width;
    OF(take)(q, head->q, 3 * all, length, width, head->S, head->D);
    OF(take)(q + all, head->k, 3 * all, length, width, head->S, head->D);
    OF(take)(q + 2 * all, head->v, 3 * all, length, width, head->S, head->D);
}

static void OF(give)(const float *from, T *to, i64 apart, i64 rows, i64 width, i64 D) {
    for (i64 i = 0; i < rows; i++)
#pragma omp simd
        for (i64 j = 0; j < width; j++) to[i * apart + j] = NARROW(from[i * D + j]);
}

/* The weights [STEP, keys] of a chunk of queries from `first` on, of their products with keys. */
static void OF(weights_of_chunk)(struct OF(head) *head, T *weights, const float *bias,
                                 const T *mask, i64 first, i64 length, i64 window, float scale) {
    i64 keys = first + STEP;
    for (i64 i = 0; i < STEP; i++) {
        i64 query = first + i, far, known = keys < length ? keys : length;
        float *x = head->product + i * head->apart;
        T *row = weights + i * keys;
        if (query >= length) {
            memset(row, 0, keys * sizeof(T));
            continue;
        }
        reach(query, window, &far);
        const float *b = bias + window + PAD - (query + 1);
#pragma omp simd
        for (i64 j = 0; j < far; j++) x[j] *= scale;
#pragma omp simd
        for (i64 j = far; j < keys; j++) x[j] = x[j] * scale + b[j];
        if (mask) {
            const T *m = mask + query * length;
#pragma omp simd
            for (i64 j = 0; j < known; j++) x[j] += WIDEN(m[j]);
        }
        float share = exponentials(x, keys);
#pragma omp simd
        for (i64 j = 0; j < keys; j++) row[j] = NARROW(x[j] * share);
    }
}

/* The gradient of a chunk's products, `row`, of that of its weights, which `product` holds;
 * `d_bias` is added to. */
static void OF(chunk_backward)(struct OF(head) *head, const T *weights, float *d_bias, i64 first,
                               i64 length, i64 window, float scale) {
    i64 keys = first + STEP;
    for (i64 i = 0; i < STEP; i++) {
        i64 query = first + i, far;
        const float *dw = head->product + i * head->apart;
        const T *w = weights + i * keys;
        T *out = head->row + i * keys;
        if (query >= length) {
            memset(out, 0, keys * sizeof(T));
            continue;
        }
        reach(query, window, &far);
        float *b = d_bias + window + PAD - (query + 1), mean = 0.0f;
#pragma omp simd reduction(+ : mean)
        for (i64 j = 0; j < keys; j++) mean += WIDEN(w[j]) * dw[j];
#pragma omp simd
        for (i64 j = 0; j < far; j++) out[j] = NARROW(scale * WIDEN(w[j]) * (dw[j] - mean));
#pragma omp simd
        for (i64 j = far; j < keys; j++) {
            float logit = WIDEN(w[j]) * (dw[j] - mean);
            b[j] += logit;
            out[j] = NARROW(scale * logit);
        }
    }
}

/* Rows of y are `apart`. */
static void OF(head_forward)(struct OF(head) *head, const float *bias, const T *mask, T *weights,
                             T *y, i64 apart, i64 length, i64 width, i64 window, float scale) {
    i64 S = head->S, D = head->D;
    OF(panels_across)(head->k, head->k_across, S, D);
    OF(panels)(head->v, head->v_panels, S, D);
    for (i64 first = 0; first < S; first += STEP) {
        i64 keys = first + STEP, rows = length - first < STEP ? length - first : STEP;
        T *kept = weights + weights_before(first / STEP);
        OF(multiply)(head->q + first * D, D, head->k_across, STEP * D, head->product, head->apart,
                     STEP, keys, D, 0);
        OF(weights_of_chunk)(head, kept, bias, mask, first, length, window, scale);
        OF(multiply)(kept, keys, head->v_panels, STEP * S, head->out, D, STEP, D, keys, 0);
        OF(give)(head->out, y + first * apart, apart, rows, width, D);
    }
}

/* a [STEP, keys] transposed, times b [STEP, D], on top of `total` [keys, D]. */
static void OF(add_transposed)(struct OF(head) *head, const T *a, const T *b, float *total,
                               i64 keys) {
    T *turned = head->scratch + STEP * keys, *panels = turned + STEP * keys;
    OF(turn)(a, turned, STEP, keys, head->scratch);
    OF(panels)(b, panels, STEP, head->D);
    OF(multiply)(turned, STEP, panels, STEP * STEP, total, head->D, keys, head->D, STEP, 1);
}

static void OF(head_backward)(struct OF(head) *head, const T *weights, float *d_bias, T *d_q,
                              i64 apart, i64 length, i64 width, i64 window, float scale) {
    i64 S = head->S, D = head->D;
    OF(panels_across)(head->v, head->v_across, S, D);
    OF(panels)(head->k, head->k_panels, S, D);
    memset(head->d_k, 0, S * D * sizeof(float));
    memset(head->d_v, 0, S * D * sizeof(float));
    for (i64 first = 0; first < S; first += STEP) {
        i64 keys = first + STEP, rows = length - first < STEP ? length - first : STEP;
        const T *kept = weights + weights_before(first / STEP), *d_y = head->d_y + first * D;
        OF(multiply)(d_y, D, head->v_across, STEP * D, head->product, head->apart, STEP, keys, D,
                     0);
        OF(chunk_backward)(head, kept, d_bias, first, length, window, scale);
        OF(multiply)(head->row, keys, head->k_panels, STEP * S, head->out, D, STEP, D, keys, 0);
        OF(give)(head->out, d_q + first * apart, apart, rows, width, D);
        OF(add_transposed)(head, head->row, head->q + first * D, head->d_k, keys);
        OF(add_transposed)(head, kept, d_y, head->d_v, keys);
    }
}

int OF(attention_forward)(const T *qkv, const float *bias, const T *mask, T *weights, T *y,
                          i64 batch, i64 length, i64 heads, i64 width, i64 window, float scale,
                          int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct OF(head) head;
        char *all = OF(make_head)(&head, length, width);
        failed = !all;
        begin_products();
#pragma omp for
        for (i64 i = 0; i < batch * heads; i++) {
            i64 b = i / heads, n = i % heads;
            const T *q = qkv + b * length * 3 * heads * width + n * width;
            if (!all) continue;
            OF(take_head)(&head, q, heads, length, width);
            OF(head_forward)(
                &head, bias + n * (window + 2 * PAD), mask ? mask + b * length * length : NULL,
                weights + i * weights_before(filled(length) / STEP),
                y + (b * length * heads + n) * width, heads * width, length, width, window, scale);
        }
        end_products();
        free(all);
    }
    return failed;
}

/* `d_bias` is [batch * heads, PAD + window + PAD], zeros at first. */
int OF(attention_backward)(const T *qkv, const T *d_y, const T *weights, float *d_bias, T *d_qkv,
                           i64 batch, i64 length, i64 heads, i64 width, i64 window, float scale,
                           int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct OF(head) head;
        char *all = OF(make_head)(&head, length, width);
        failed = !all;
        begin_products();
#pragma omp for
        for (i64 i = 0; i < batch * heads; i++) {
            i64 b = i / heads, n = i % heads, apart = 3 * heads * width;
            i64 at = b * length * apart + n * width;
            if (!all) continue;
            OF(take_head)(&head, qkv + at, heads, length, width);
            OF(take)(d_y + (b * length * heads + n) * width, head.d_y, heads * width, length, width,
                     head.S, head.D);
            OF(head_backward)(&head, weights + i * weights_before(filled(length) / STEP),
                              d_bias + i * (window + 2 * PAD), d_qkv + at, apart, length, width,
                              window, scale);
            OF(give)(head.d_k, d_qkv + at + heads * width, apart, length, width, head.D);
            OF(give)(head.d_v, d_qkv + at + 2 * heads * width, apart, length, width, head.D);
        }
        end_products();
        free(all);
    }
    return failed;
}
