/* Feed-forwards in float32, whole: GEGLU, its plain form, and the experts of a layer (paper,
 * section 4). What a product makes goes on, through GELU and to the next product, while it is in
 * the cache.
 *
 *   y = GELU(x w_in) w_out                      plain, and each expert
 *   y = (GELU(x w_gate) * (x w_in)) w_out       GEGLU
 *
 * Rows are worked on in blocks of up to MOST_ROWS, which threads take one by one, so that an expert
 * that most tokens go to does not keep one thread while the others wait. In the backward pass a
 * wave of up to WAVE rows first gets its gradients of the hidden units, and then its part of the
 * weights' gradients: what is between the two stays small whatever the batch is. */
#define WAVE 1024

/* A feed-forward of E experts, w_in [E, M, H] and w_out [E, H, M]; E is 1 without experts. Expert e
 * has rows [first_row[e], first_row[e + 1]), of which row r is token token_of_row[r]; NULL for both:
 * row r is token r of the only expert. Kept of the forward pass: `gate` and `in` [rows, H], the
 * products with w_gate and w_in, `gate` for GEGLU alone. */
struct feed_forward {
    const float *x, *w_gate, *w_in, *w_out;
    const i64 *first_row, *token_of_row;
    float *gate, *in, *y;
    i64 rows, E, M, H;
};

/* Rows [first, first + n) of an expert; `add`: the expert's rows before them came earlier. */
struct rows_of_expert {
    i64 expert, first, n;
    int add;
};

static i64 rows_before(const struct feed_forward *f, i64 expert) {
    return f->first_row ? f->first_row[expert] : expert * f->rows;
}

/* Shares the rows of all experts out into parts of up to `most`, as even as they go, of each expert
 * a multiple of `threads` where it has at least so many blocks of 48. Returns how many there are;
 * `out` has room for `most_parts`, or is NULL to count. */
static i64 share_rows(const struct feed_forward *f, struct rows_of_expert *out, i64 most, i64 threads) {
    i64 count = 0;
    for (i64 e = 0; e < f->E; e++) {
        i64 first = rows_before(f, e), rows = rows_before(f, e + 1) - first;
        i64 parts = (rows + most - 1) / most;
        if (rows >= 48 * threads) parts = (parts + threads - 1) / threads * threads;
        for (i64 p = 0; p < parts; p++, count++) {
            i64 from = rows * p / parts, to = rows * (p + 1) / parts;
            if (out) out[count] = (struct rows_of_expert){e, first + from, to - from, p > 0};
        }
    }
    return count;
}

/* The rows of x [tokens, M] as one block: where they lie, or gathered into `block`. */
static const float *gathered(const float *x, const i64 *token_of_row, i64 first, i64 n, i64 M,
                             float *block) {
    if (!token_of_row) return x + first * M;
    for (i64 r = 0; r < n; r++)
        memcpy(block + r * M, x + token_of_row[first + r] * M, M * sizeof(float));
    return block;
}

/* A block of hidden units on its way through GELU. */
struct hidden_block {
    const float *gate, *in;  /* [n, H] of the forward pass; `gate` NULL without GEGLU */
    float *d_gate, *d_in;    /* [n, H]: d_in comes as the gradient of the hidden units */
    float *hidden, *d_gates; /* [n, H]; [n], or NULL */
    const float *gates;      /* of the rows, or NULL for gates of 1 */
    i64 H;
};

static void gelu_piece(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    const struct hidden_block *b = with;
    for (i64 r = top; r < top + rows; r++) {
        const float *gate = (b->gate ? b->gate : b->in) + r * b->H + j, *in = b->in + r * b->H + j;
        float *out = b->hidden + r * b->H + j;
        if (b->gate)
#pragma omp simd
            for (i64 q = 0; q < columns; q++) out[q] = gelu(gate[q]) * in[q];
        else
#pragma omp simd
            for (i64 q = 0; q < columns; q++) out[q] = gelu(in[q]);
    }
}

/* A row's `columns` of: hidden = gate * GELU(in), d_in = gate * d_in * GELU'(in). Returns this part
 * of the gate's gradient. */
INLINE float gelu_row_backward(const float *restrict in, float *restrict d_in,
                               float *restrict hidden, float gate, i64 columns) {
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (i64 q = 0; q < columns; q++) {
        float slope, y = gelu_and_slope(in[q], &slope), d = d_in[q];
        total += y * d;
        hidden[q] = gate * y;
        d_in[q] = gate * d * slope;
    }
    return total;
}

INLINE void geglu_row_backward(const float *restrict gate, const float *restrict in,
                               float *restrict d_gate, float *restrict d_in,
                               float *restrict hidden, i64 columns) {
#pragma omp simd
    for (i64 q = 0; q < columns; q++) {
        float slope, y = gelu_and_slope(gate[q], &slope), d = d_in[q];
        hidden[q] = y * in[q];
        d_gate[q] = d * in[q] * slope;
        d_in[q] = d * y;
    }
}

static void gelu_piece_backward(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    const struct hidden_block *b = with;
    for (i64 r = top; r < top + rows; r++) {
        i64 at = r * b->H + j;
        if (b->gate) {
            geglu_row_backward(b->gate + at, b->in + at, b->d_gate + at, b->d_in + at,
                               b->hidden + at, columns);
            continue;
        }
        float part = gelu_row_backward(b->in + at, b->d_in + at, b->hidden + at,
                                       b->gates ? b->gates[r] : 1.0f, columns);
        if (b->d_gates) b->d_gates[r] = part + (j ? b->d_gates[r] : 0.0f);
    }
}

/* One block through both products. `space_of_rows` has [n, M] and [n, H]. */
static void forward_block(const struct feed_forward *f, struct rows_of_expert rows, float *block,
                          struct product_space *space) {
    i64 M = f->M, H = f->H, n = rows.n, at = rows.expert * M * H, first = rows.first;
    float *hidden = block + n * M;
    const float *x = gathered(f->x, f->token_of_row, first, n, M, block);
    struct hidden_block b = {.gate = f->gate ? f->gate + first * H : NULL, .in = f->in + first * H,
                             .hidden = hidden, .H = H};
    struct product p = {.a = x, .b = f->w_gate, .c = f->gate + first * H, .lda = M, .ldb = H,
                        .ldc = H, .n = n, .N = H, .K = M};
    if (f->gate) multiply(&p, space);
    p.b = f->w_in + at, p.c = f->in + first * H, p.finish = gelu_piece, p.with = &b;
    multiply(&p, space);
    p = (struct product){.a = hidden, .b = f->w_out + at, .c = f->y + first * M, .lda = H, .ldb = M,
                         .ldc = M, .n = n, .N = M, .K = H};
    multiply(&p, space);
}

/* Memory of all threads for blocks of rows. */
static i64 floats_of_block(const struct feed_forward *f) { return MOST_ROWS * (f->M + f->H); }

static int run_forward(const struct feed_forward *f, int threads) {
    i64 count = share_rows(f, NULL, MOST_ROWS, threads), each = floats_of_block(f);
    struct product_space *spaces = alloc_spaces(threads);
    float *blocks = malloc(threads * each * sizeof(float));
    struct rows_of_expert *parts = malloc((count + 1) * sizeof *parts);
    int failed = !spaces || !blocks || !parts;
    if (!failed) {
        share_rows(f, parts, MOST_ROWS, threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (i64 i = 0; i < count; i++)
            forward_block(f, parts[i], blocks + omp_get_thread_num() * each,
                          spaces + omp_get_thread_num());
    }
    free(spaces), free(blocks), free(parts);
    return failed;
}

/* Gradients of a feed-forward, and where they go. d_y [tokens, M] is ungated. */
struct feed_forward_gradients {
    const float *d_y, *gates; /* gates [rows] of experts, else NULL */
    float *d_x, *d_gates;     /* d_x [rows, M]: of experts, of rows and not of tokens */
    float *d_w_gate, *d_w_in, *d_w_out;
    float *d_gate, *d_in, *hidden; /* of a wave: [rows, H] */
};

/* Gradients of the hidden units and of x for one block of a wave whose first row is `start`. */
static void backward_block(const struct feed_forward *f, const struct feed_forward_gradients *g,
                           struct rows_of_expert rows, i64 start, float *block,
                           struct product_space *space) {
    i64 M = f->M, H = f->H, n = rows.n, first = rows.first, at = rows.expert * M * H;
    i64 in_wave = (first - start) * H;
    const float *d_y = gathered(g->d_y, f->token_of_row, first, n, M, block);
    struct hidden_block b = {.gate = f->gate ? f->gate + first * H : NULL,
                             .in = f->in + first * H,
                             .d_gate = g->d_gate + in_wave,
                             .d_in = g->d_in + in_wave,
                             .hidden = g->hidden + in_wave,
                             .gates = g->gates ? g->gates + first : NULL,
                             .d_gates = g->d_gates ? g->d_gates + first : NULL,
                             .H = H};
    struct product p = {.a = d_y, .b = f->w_out + at, .c = b.d_in, .lda = M, .ldb = M, .ldc = H,
                        .n = n, .N = H, .K = M, .transposed = 1, .finish = gelu_piece_backward,
                        .with = &b};
    multiply(&p, space);
    p = (struct product){.a = b.d_in, .b = f->w_in + at, .c = g->d_x + first * M, .lda = H, .ldb = H,
                         .ldc = M, .n = n, .N = M, .K = H, .transposed = 1};
    multiply(&p, space);
    if (f->gate) p.a = b.d_gate, p.b = f->w_gate, p.add = 1, multiply(&p, space);
}

/* `part` of `parts` of what the given rows of a wave add to the gradients of the weights. */
static void weights_backward(const struct feed_forward *f, const struct feed_forward_gradients *g,
                             struct rows_of_expert rows, i64 start, i64 part, i64 parts,
                             struct product_space *space) {
    i64 M = f->M, H = f->H, at = rows.expert * M * H, in_wave = (rows.first - start) * H;
    const i64 *tokens = f->token_of_row ? f->token_of_row + rows.first : NULL;
    i64 direct = tokens ? 0 : rows.first * M;
    struct gradient of_in = {.a = f->x + direct, .b = g->d_in + in_wave, .a_rows = tokens,
                             .c = g->d_w_in + at, .lda = M, .ldb = H, .ldc = H, .n = M, .N = H,
                             .K = rows.n, .add = rows.add};
    struct gradient of_gate = of_in;
    of_gate.b = g->d_gate + in_wave, of_gate.c = g->d_w_gate;
    struct gradient of_out = {.a = g->hidden + in_wave, .b = g->d_y + direct, .b_rows = tokens,
                              .c = g->d_w_out + at, .lda = H, .ldb = M, .ldc = M, .n = H, .N = M,
                              .K = rows.n, .add = rows.add};
    multiply_gradient(&of_in, part, parts, space);
    if (f->gate) multiply_gradient(&of_gate, part, parts, space);
    multiply_gradient(&of_out, part, parts, space);
}

/* The end of the wave of blocks that begins with `from`: up to WAVE rows. */
static i64 end_of_wave(const struct rows_of_expert *blocks, i64 from, i64 count) {
    i64 rows = blocks[from].n, i = from + 1;
    for (; i < count && rows + blocks[i].n <= WAVE; i++) rows += blocks[i].n;
    return i;
}

/* The blocks [from, to) joined expert by expert: `out`, of the `wanted`-th expert among them.
 * Returns how many experts there are. */
static i64 join_blocks(const struct rows_of_expert *blocks, i64 from, i64 to, i64 wanted,
                       struct rows_of_expert *out) {
    i64 experts = 0;
    for (i64 i = from; i < to; i++) {
        int another = i == from || blocks[i].expert != blocks[i - 1].expert;
        experts += another;
        if (experts != wanted + 1) continue;
        if (another) *out = blocks[i];
        else out->n += blocks[i].n;
    }
    return experts;
}

/* Every thread of a parallel region runs it: each `omp for` shares its loop among them and ends
 * with a barrier. */
static void run_waves(const struct feed_forward *f, const struct feed_forward_gradients *g,
                      const struct rows_of_expert *blocks, i64 count, float *block,
                      struct product_space *space, i64 threads) {
    i64 size = f->M * f->H * sizeof(float);
#pragma omp for
    for (i64 e = 0; e < f->E; e++) {
        if (rows_before(f, e + 1) > rows_before(f, e)) continue;
        memset(g->d_w_in + e * f->M * f->H, 0, size);
        memset(g->d_w_out + e * f->M * f->H, 0, size);
        if (f->gate) memset(g->d_w_gate, 0, size);
    }
    for (i64 from = 0, to; from < count; from = to) {
        to = end_of_wave(blocks, from, count);
        struct rows_of_expert rows = {0};
        i64 start = blocks[from].first, experts = join_blocks(blocks, from, to, -1, &rows);
        i64 parts = experts < 2 * threads ? threads : 1;
#pragma omp for schedule(dynamic)
        for (i64 i = from; i < to; i++) backward_block(f, g, blocks[i], start, block, space);
#pragma omp for schedule(dynamic)
        for (i64 i = 0; i < experts * parts; i++) {
            join_blocks(blocks, from, to, i / parts, &rows);
            weights_backward(f, g, rows, start, i % parts, parts, space);
        }
    }
}

/* The hidden units of a wave, three times: a block more than WAVE rows at most. */
static float *alloc_wave(const struct feed_forward *f, struct feed_forward_gradients *g) {
    i64 size = lesser(WAVE > MOST_ROWS ? WAVE : MOST_ROWS, rows_before(f, f->E)) * f->H;
    float *wave = malloc((3 * size + 1) * sizeof(float));
    g->d_in = wave, g->hidden = wave + size, g->d_gate = wave + 2 * size;
    return wave;
}

static int run_backward(const struct feed_forward *f, struct feed_forward_gradients g, int threads) {
    i64 count = share_rows(f, NULL, MOST_ROWS, threads), each = floats_of_block(f);
    struct product_space *spaces = alloc_spaces(threads);
    float *wave = alloc_wave(f, &g), *all = malloc(threads * each * sizeof(float));
    struct rows_of_expert *blocks = malloc((count + 1) * sizeof *blocks);
    int failed = !spaces || !wave || !all || !blocks;
    if (!failed) {
        share_rows(f, blocks, MOST_ROWS, threads);
#pragma omp parallel num_threads(threads)
        run_waves(f, &g, blocks, count, all + omp_get_thread_num() * each,
                  spaces + omp_get_thread_num(), threads);
    }
    free(spaces), free(wave), free(all), free(blocks);
    return failed;
}

/* y [rows, M], ungated, of x [tokens, M] by w_in [E, M, H] and w_out [E, H, M]; first_row [E + 1],
 * token_of_row [rows]. in [rows, H] is kept for the backward pass. Returns 1 where there is no
 * memory. */
int experts_forward_f32(const float *x, const float *w_in, const float *w_out,
                        const i64 *first_row, const i64 *token_of_row, float *in, float *y, i64 E,
                        i64 M, i64 H, int w_is_f32, int threads) {
    (void)w_is_f32;
    struct feed_forward f = {.x = x, .w_in = w_in, .w_out = w_out, .first_row = first_row,
                             .token_of_row = token_of_row, .in = in, .y = y, .E = E, .M = M, .H = H};
    return run_forward(&f, threads);
}

/* From d_y [tokens, M], ungated, and gates [rows]: d_rows [rows, M], d_gates [rows], and the
 * gradients of the weights. Returns 1 where there is no memory. */
int experts_backward_f32(const float *x, const float *d_y, const float *w_in, const float *w_out,
                         const i64 *first_row, const i64 *token_of_row, const float *in,
                         const float *gates, float *d_rows, float *d_gates, float *d_w_in,
                         float *d_w_out, i64 E, i64 M, i64 H, int w_is_f32, int threads) {
    (void)w_is_f32;
    struct feed_forward f = {.x = x, .w_in = w_in, .w_out = w_out, .first_row = first_row,
                             .token_of_row = token_of_row, .in = (float *)in, .E = E, .M = M, .H = H};
    struct feed_forward_gradients g = {.d_y = d_y, .gates = gates, .d_x = d_rows,
                                       .d_gates = d_gates, .d_w_in = d_w_in, .d_w_out = d_w_out};
    return run_backward(&f, g, threads);
}

/* y [rows, M] of x [rows, M]: GEGLU by w_gate [M, H], or the plain form where w_gate and `gate` are
 * NULL. gate and in [rows, H] are kept for the backward pass. Returns 1 where there is no memory. */
int feed_forward_f32(const float *x, const float *w_gate, const float *w_in, const float *w_out,
                     float *gate, float *in, float *y, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward f = {.x = x, .w_gate = w_gate, .w_in = w_in, .w_out = w_out, .gate = gate,
                             .in = in, .y = y, .rows = rows, .E = 1, .M = M, .H = H};
    return run_forward(&f, threads);
}

/* From d_y [rows, M]: d_x [rows, M] and the gradients of the weights, d_w_gate NULL for the plain
 * form. Returns 1 where there is no memory. */
int feed_forward_backward_f32(const float *x, const float *d_y, const float *w_gate,
                              const float *w_in, const float *w_out, const float *gate,
                              const float *in, float *d_x, float *d_w_gate, float *d_w_in,
                              float *d_w_out, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward f = {.x = x, .w_gate = w_gate, .w_in = w_in, .w_out = w_out,
                             .gate = (float *)gate, .in = (float *)in, .rows = rows, .E = 1, .M = M,
                             .H = H};
    struct feed_forward_gradients g = {.d_y = d_y, .d_x = d_x, .d_w_gate = d_w_gate,
                                       .d_w_in = d_w_in, .d_w_out = d_w_out};
    return run_backward(&f, g, threads);
}

/* y [rows, N] = x [rows, K] w [K, N]. Returns 1 where there is no memory. */
int linear_f32(const float *x, const float *w, float *y, i64 rows, i64 K, i64 N, int threads) {
    struct product_space *spaces = alloc_spaces(threads);
    if (!spaces) return 1;
#pragma omp parallel for num_threads(threads)
    for (i64 t = 0; t < threads; t++) {
        i64 from = rows * t / threads, to = rows * (t + 1) / threads;
        struct product p = {.a = x + from * K, .b = w, .c = y + from * N, .lda = K, .ldb = N,
                            .ldc = N, .n = to - from, .N = N, .K = K};
        multiply(&p, spaces + t);
    }
    free(spaces);
    return 0;
}

/* From d_y [rows, N]: d_x [rows, K] and d_w [K, N], which is added to where `add`. Returns 1 where
 * there is no memory. */
int linear_backward_f32(const float *x, const float *d_y, const float *w, float *d_x, float *d_w,
                        i64 rows, i64 K, i64 N, int add, int threads) {
    struct product_space *spaces = alloc_spaces(threads);
    if (!spaces) return 1;
#pragma omp parallel for num_threads(threads)
    for (i64 t = 0; t < threads; t++) {
        i64 from = rows * t / threads, to = rows * (t + 1) / threads;
        struct product p = {.a = d_y + from * N, .b = w, .c = d_x + from * K, .lda = N, .ldb = N,
                            .ldc = K, .n = to - from, .N = K, .K = N, .transposed = 1};
        struct gradient g = {.a = x, .b = d_y, .c = d_w, .lda = K, .ldb = N, .ldc = N, .n = K,
                             .N = N, .K = rows, .add = add};
        multiply(&p, spaces + t);
        multiply_gradient(&g, t, threads, spaces + t);
    }
    free(spaces);
    return 0;
}
