/* Functions of T, which kernels.c includes once for each element type. OF(name) has its suffix. */

void OF(gelu)(const T *restrict x, T *restrict y, i64 n, int threads) {
#pragma omp parallel for simd schedule(simd : static, SHARE) num_threads(threads) \
    if (parallel : n > PARALLEL_FROM)
    for (i64 i = 0; i < n; i++) y[i] = NARROW(gelu(WIDEN(x[i])));
}

/* y = gelu(gate) * x */
void OF(geglu)(const T *restrict gate, const T *restrict x, T *restrict y, i64 n, int threads) {
#pragma omp parallel for simd schedule(simd : static, SHARE) num_threads(threads) \
    if (parallel : n > PARALLEL_FROM)
    for (i64 i = 0; i < n; i++) y[i] = NARROW(gelu(WIDEN(gate[i])) * WIDEN(x[i]));
}

void OF(gelu_backward)(const T *restrict d_y, const T *restrict x, T *restrict d_x, i64 n,
                       int threads) {
#pragma omp parallel for simd schedule(simd : static, SHARE) num_threads(threads) \
    if (parallel : n > PARALLEL_FROM)
    for (i64 i = 0; i < n; i++) {
        float slope;
        gelu_and_slope(WIDEN(x[i]), &slope);
        d_x[i] = NARROW(WIDEN(d_y[i]) * slope);
    }
}

void OF(geglu_backward)(const T *restrict d_y, const T *restrict gate, const T *restrict x,
                        T *restrict d_gate, T *restrict d_x, i64 n, int threads) {
#pragma omp parallel for simd schedule(simd : static, SHARE) num_threads(threads) \
    if (parallel : n > PARALLEL_FROM)
    for (i64 i = 0; i < n; i++) {
        float slope, y = gelu_and_slope(WIDEN(gate[i]), &slope), d = WIDEN(d_y[i]);
        d_gate[i] = NARROW(d * WIDEN(x[i]) * slope);
        d_x[i] = NARROW(d * y);
    }
}

/* Experts' rows on the way back: `d` comes as the gradient of GELU(before) without the gate and
 * becomes that of `before`; `gated` is gate * GELU(before); a gate's gradient is the sum of what it
 * scales. */
void OF(gated_gelu_backward)(const T *restrict before, const float *restrict gates, T *restrict d,
                             T *restrict gated, float *restrict d_gates, i64 rows, i64 width,
                             int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : rows * width > PARALLEL_FROM)
    for (i64 r = 0; r < rows; r++) {
        const T *x = before + r * width;
        T *dx = d + r * width, *out = gated + r * width;
        float gate = gates[r], total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (i64 j = 0; j < width; j++) {
            float slope, y = gelu_and_slope(WIDEN(x[j]), &slope), dy = WIDEN(dx[j]);
            total += y * dy;
            out[j] = NARROW(gate * y);
            dx[j] = NARROW(gate * dy * slope);
        }
        d_gates[r] = total;
    }
}

/* Each token's sum over its choices' rows, times their gates where there are any. */
void OF(sum_of_choices)(const T *restrict rows, const i64 *restrict row_of_choice,
                        const float *restrict gates, T *restrict y, i64 tokens, i64 top_k,
                        i64 width, int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : tokens * width > PARALLEL_FROM)
    for (i64 t = 0; t < tokens; t++) {
        const i64 *at = row_of_choice + t * top_k;
        T *out = y + t * width;
        if (top_k == 2) { /* as the paper has it: no sum is stored on the way */
            const T *a = rows + at[0] * width, *b = rows + at[1] * width;
            float ga = gates ? gates[t * 2] : 1.0f, gb = gates ? gates[t * 2 + 1] : 1.0f;
#pragma omp simd
            for (i64 j = 0; j < width; j++) out[j] = NARROW(ga * WIDEN(a[j]) + gb * WIDEN(b[j]));
            continue;
        }
        for (i64 j = 0; j < width; j++) {
            float total = 0.0f;
            for (i64 k = 0; k < top_k; k++)
                total += (gates ? gates[t * top_k + k] : 1.0f) * WIDEN(rows[at[k] * width + j]);
            out[j] = NARROW(total);
        }
    }
}

/* y = x / sqrt(mean(x^2) + eps) * scale, row by row; `inverse` is what x is multiplied by. */
void OF(rms_norm)(const T *restrict x, const float *restrict scale, T *restrict y,
                  float *restrict inverse, i64 rows, i64 width, float eps, int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : rows * width > PARALLEL_FROM)
    for (i64 r = 0; r < rows; r++) {
        const T *in = x + r * width;
        T *out = y + r * width;
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (i64 j = 0; j < width; j++) total += WIDEN(in[j]) * WIDEN(in[j]);
        float by = 1.0f / sqrtf(total / width + eps);
        inverse[r] = by;
#pragma omp simd
        for (i64 j = 0; j < width; j++) out[j] = NARROW(WIDEN(in[j]) * by * scale[j]);
    }
}

/* `d_scale` is [CHUNKS, width], to be summed. */
void OF(rms_norm_backward)(const T *restrict d_y, const T *restrict x, const float *restrict scale,
                           const float *restrict inverse, T *restrict d_x, float *restrict d_scale,
                           i64 rows, i64 width, int threads) {
    i64 chunk = (rows + CHUNKS - 1) / CHUNKS;
#pragma omp parallel for num_threads(threads) if (parallel : rows * width > PARALLEL_FROM)
    for (i64 c = 0; c < CHUNKS; c++) {
        float *ds = d_scale + c * width;
        memset(ds, 0, width * sizeof(float));
        for (i64 r = c * chunk; r < rows && r < (c + 1) * chunk; r++) {
            const T *in = x + r * width, *d = d_y + r * width;
            T *out = d_x + r * width;
            float by = inverse[r], along = 0.0f;
#pragma omp simd reduction(+ : along)
            for (i64 j = 0; j < width; j++) {
                float product = WIDEN(d[j]) * WIDEN(in[j]) * by;
                ds[j] += product;
                along += product * scale[j];
            }
            along = along / width * by;
#pragma omp simd
            for (i64 j = 0; j < width; j++)
                out[j] = NARROW(by * (WIDEN(d[j]) * scale[j] - WIDEN(in[j]) * along));
        }
    }
}

/* Causal attention weights of a block of queries, in place of their products with keys: [batch *
 * heads, rows, keys], the last row's query being the last key. `bias` [heads, PAD + window + PAD]
 * has the farthest distance first, and distance 0 before the last PAD, which are -infinity; before
 * the window, PAD zeros. `mask` [batch, length, length] is added where there is one. Rows are
 * worked on in whole vectors: beyond the query all comes out 0. */
void OF(attention_weights)(T *weights, const float *bias, const T *mask, float *scratch, i64 batch,
                           i64 heads, i64 rows, i64 keys, i64 window, i64 length, float scale,
                           int threads) {
    i64 all = batch * heads * rows;
#pragma omp parallel for num_threads(threads) if (parallel : all * keys > PARALLEL_FROM)
    for (i64 i = 0; i < all; i++) {
        i64 matrix = i / rows, query = keys - rows + i % rows, far;
        i64 end = reach(query, window, &far);
        const float *b = bias + (matrix % heads + 1) * (window + 2 * PAD) - PAD - (query + 1);
        T *row = weights + i * keys;
        float *x = scratch + omp_get_thread_num() * (keys + PAD);
        end = end < keys ? end : keys;
#pragma omp simd
        for (i64 j = 0; j < far; j++) x[j] = scale * WIDEN(row[j]);
#pragma omp simd
        for (i64 j = far; j < end; j++) x[j] = scale * WIDEN(row[j]) + b[j];
        if (mask) {
            const T *m = mask + (matrix / heads * length + query) * length;
#pragma omp simd
            for (i64 j = 0; j < end; j++) x[j] += WIDEN(m[j]);
        }
        float share = exponentials(x, end);
#pragma omp simd
        for (i64 j = 0; j < end; j++) row[j] = NARROW(x[j] * share);
        memset(row + end, 0, (keys - end) * sizeof(T));
    }
}

/* `d` comes as the gradient of the weights and becomes that of the products; `d_bias` [batch *
 * heads, PAD + window + PAD] is added to. */
void OF(attention_weights_backward)(T *restrict d, const T *restrict weights,
                                    float *restrict d_bias, i64 matrices, i64 rows, i64 keys,
                                    i64 window, float scale, int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : matrices * rows * keys > PARALLEL_FROM)
    for (i64 i = 0; i < matrices; i++)
        for (i64 r = 0; r < rows; r++) {
            i64 query = keys - rows + r, far, end = reach(query, window, &far);
            const T *w = weights + (i * rows + r) * keys;
            T *out = d + (i * rows + r) * keys;
            float *b = d_bias + (i + 1) * (window + 2 * PAD) - PAD - (query + 1), mean = 0.0f;
            end = end < keys ? end : keys;
#pragma omp simd reduction(+ : mean)
            for (i64 j = 0; j < end; j++) mean += WIDEN(w[j]) * WIDEN(out[j]);
#pragma omp simd
            for (i64 j = 0; j < far; j++)
                out[j] = NARROW(scale * WIDEN(w[j]) * (WIDEN(out[j]) - mean));
#pragma omp simd
            for (i64 j = far; j < end; j++) {
                float logit = WIDEN(w[j]) * (WIDEN(out[j]) - mean);
                b[j] += logit;
                out[j] = NARROW(scale * logit);
            }
            memset(out + end, 0, (keys - end) * sizeof(T));
        }
}

/* Cross-entropy of each row of logits, which becomes its gradient where one `learns`. With a cap
 * logits are cap * tanh(logits / cap); 0: without. */
static inline float OF(entropy_of_row)(T *restrict row, i64 target, i64 V, const float cap,
                                       int learns, float *restrict x) {
    float most = -INFINITY, total = 0.0f, by = 1.0f / cap;
    if (cap > 0.0f) {
#pragma omp simd
        for (i64 j = 0; j < V; j++) x[j] = cap * tanh_(WIDEN(row[j]) * by);
#pragma omp simd reduction(max : most)
        for (i64 j = 0; j < V; j++) most = larger(x[j], most);
    } else {
#pragma omp simd reduction(max : most)
        for (i64 j = 0; j < V; j++) most = larger(WIDEN(row[j]), most);
    }
    float of_target = cap > 0.0f ? x[target] : WIDEN(row[target]);
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < V; j++)
        total += x[j] = exp_or_tiny((cap > 0.0f ? x[j] : WIDEN(row[j])) - most);
    if (learns) {
        float share = 1.0f / total;
        x[target] -= total;
        if (cap > 0.0f) {
#pragma omp simd
            for (i64 j = 0; j < V; j++) {
                float bent = tanh_(WIDEN(row[j]) * by);
                row[j] = NARROW(x[j] * share * (1.0f - bent * bent));
            }
        } else {
#pragma omp simd
            for (i64 j = 0; j < V; j++) row[j] = NARROW(x[j] * share);
        }
    }
    return most + logf(total) - of_target;
}

/* `scratch` is [threads, V]. Returns whether a target is beyond the vocabulary. */
int OF(cross_entropy)(T *logits, const i64 *targets, float *losses, float *scratch, i64 rows,
                       i64 V, float cap, int learns, int threads) {
    for (i64 r = 0; r < rows; r++)
        if (targets[r] < 0 || targets[r] >= V) return 1;
#pragma omp parallel for num_threads(threads) if (parallel : rows * V > PARALLEL_FROM)
    for (i64 r = 0; r < rows; r++) {
        float *x = scratch + omp_get_thread_num() * V;
        T *row = logits + r * V;
        if (cap > 0.0f)
            losses[r] = OF(entropy_of_row)(row, targets[r], V, cap, learns, x);
        else
            losses[r] = OF(entropy_of_row)(row, targets[r], V, 0.0f, learns, x);
    }
    return 0;
}
