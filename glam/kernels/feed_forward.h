/* Feed-forwards in float32, whole: GEGLU, its plain form, and the experts of a layer (paper,
 * section 4). What a product makes goes on, through GELU and to the next product, while it is in
 * the cache.
 *
 *   y = GELU(x w_in) w_out                      plain, and each expert
 *   y = (GELU(x w_gate) * (x w_in)) w_out       GEGLU
 *
 * Rows are worked on in blocks, which threads take one by one, so that an expert that most tokens
 * go to does not keep one thread while the others wait. In the backward pass a wave of up to WAVE
 * rows first gets its gradients of the hidden units, and then its part of the weights' gradients:
 * what is between the two stays small whatever the batch is.
 *
 * The hidden units of a block of n rows lie in panels [H / PANEL, n, PANEL], the last padded: each
 * is what a product makes at a time and what another takes, and needs no packing. */
#define WAVE 1024
#define LARGE_WEIGHT 65536 /* elements from which blocks are large, since each reads the weights */
#define LARGE_BLOCK 960    /* rows of a block then */
#define SMALL_BLOCK 120    /* rows of a block else */
#define SPLIT_FROM 480     /* rows of an expert from which there are blocks for several threads */

/* A feed-forward of E experts, w_in [E, M, H] and w_out [E, H, M]; E is 1 without experts. Expert e
 * has rows [first_row[e], first_row[e + 1]), of which row r is token token_of_row[r]; NULL for both:
 * row r is token r of the only expert. Kept of the forward pass: `gate` and `in`, [rows, H rounded
 * up to TILE] in blocks of panels, the products with w_gate and w_in; `gate` for GEGLU alone. */
struct feed_forward {
    const float *x, *w_gate, *w_in, *w_out;
    const i64 *first_row, *token_of_row;
    float *gate, *in, *y;
    i64 rows, E, M, H;
};

/* Floats of a row of hidden units, padding included. */
static i64 padded_hidden(const struct feed_forward *f) { return round_up_tile(f->H); }

/* Rows [first, first + n) of an expert; `add`: the expert's rows before them came earlier. */
struct rows_of_expert {
    i64 expert, first, n;
    int add;
};

static i64 rows_before(const struct feed_forward *f, i64 expert) {
    return f->first_row ? f->first_row[expert] : expert * f->rows;
}

/* The blocks of an expert of so many rows. They do not depend on the number of threads, as the kept
 * hidden units lie in them. */
static i64 blocks_of_expert(const struct feed_forward *f, i64 rows) {
    int large = f->M * f->H > LARGE_WEIGHT;
    if (rows < SPLIT_FROM) return large ? rows > 0 : (rows + MOST_ROWS - 1) / MOST_ROWS;
    i64 most = large ? LARGE_BLOCK : SMALL_BLOCK;
    return round_up((rows + most - 1) / most, large ? 2 : 4);
}

/* The most rows of a block. */
static i64 rows_of_block(const struct feed_forward *f) {
    return f->M * f->H > LARGE_WEIGHT ? LARGE_BLOCK : MOST_ROWS;
}

/* The blocks of all experts, as even as they go. Returns how many there are; `out` is NULL to count
 * them. */
static i64 list_blocks(const struct feed_forward *f, struct rows_of_expert *out) {
    i64 count = 0;
    for (i64 e = 0; e < f->E; e++) {
        i64 first = rows_before(f, e), rows = rows_before(f, e + 1) - first;
        i64 blocks = blocks_of_expert(f, rows);
        for (i64 i = 0; i < blocks; i++, count++) {
            i64 from = rows * i / blocks, to = rows * (i + 1) / blocks;
            if (out) out[count] = (struct rows_of_expert){e, first + from, to - from, i > 0};
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

/* A block of hidden units on its way through GELU: panels of n rows. */
struct hidden_block {
    const float *gate, *in;  /* of the forward pass; `gate` NULL without GEGLU */
    float *d_gate, *d_in;    /* d_in comes as the gradient of the hidden units */
    float *hidden, *d_gates; /* d_gates [n], or NULL */
    const float *gates;      /* [n], or NULL for gates of 1 */
    i64 n;
};

/* Where row `top` of the panel of column j begins in a block of n rows. */
static i64 place_in_panels(i64 n, i64 top, i64 j) { return j * n + top * PANEL; }

static void gelu_piece(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    (void)columns; /* padding too */
    const struct hidden_block *b = with;
    i64 at = place_in_panels(b->n, top, j), count = rows * PANEL;
    const float *restrict gate = b->gate ? b->gate + at : NULL, *restrict in = b->in + at;
    float *restrict out = b->hidden + at;
    if (gate)
#pragma omp simd
        for (i64 i = 0; i < count; i++) out[i] = gelu(gate[i]) * in[i];
    else
#pragma omp simd
        for (i64 i = 0; i < count; i++) out[i] = gelu(in[i]);
}

/* Gradient of hidden = gate * GELU(in), of PANEL columns: d_in comes as that of the ungated hidden
 * units and becomes that of `in`. Returns this part of the gate's gradient. */
INLINE float gelu_row_backward(const float *restrict in, float *restrict d_in,
                               float *restrict hidden, float gate) {
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int q = 0; q < PANEL; q++) {
        float slope, y = gelu_and_slope(in[q], &slope), d = d_in[q];
        total += y * d;
        hidden[q] = gate * y;
        d_in[q] = gate * d * slope;
    }
    return total;
}

static void gelu_piece_backward(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    (void)columns;
    const struct hidden_block *b = with;
    for (i64 r = top; r < top + rows; r++) {
        i64 at = place_in_panels(b->n, r, j);
        float part = gelu_row_backward(b->in + at, b->d_in + at, b->hidden + at,
                                       b->gates ? b->gates[r] : 1.0f);
        if (b->d_gates) b->d_gates[r] = part + (j ? b->d_gates[r] : 0.0f);
    }
}

/* Gradient of hidden = GELU(gate) * in, in the same way. */
static void geglu_piece_backward(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    (void)columns;
    const struct hidden_block *b = with;
    i64 at = place_in_panels(b->n, top, j), count = rows * PANEL;
    const float *restrict gate = b->gate + at, *restrict in = b->in + at;
    float *restrict d_gate = b->d_gate + at, *restrict d_in = b->d_in + at;
    float *restrict hidden = b->hidden + at;
#pragma omp simd
    for (i64 i = 0; i < count; i++) {
        float slope, y = gelu_and_slope(gate[i], &slope), d = d_in[i];
        hidden[i] = y * in[i];
        d_gate[i] = d * in[i] * slope;
        d_in[i] = d * y;
    }
}

/* One block through both products. `block` has room for [n, M] and [n, H]. */
static void forward_block(const struct feed_forward *f, struct rows_of_expert rows, float *block,
                          struct product_space *space) {
    i64 M = f->M, H = f->H, n = rows.n, at = rows.expert * M * H, first = rows.first;
    i64 kept = first * padded_hidden(f);
    float *hidden = block + n * M;
    struct hidden_block b = {.gate = f->gate ? f->gate + kept : NULL, .in = f->in + kept,
                             .hidden = hidden, .n = n};
    struct product p = {.a = gathered(f->x, f->token_of_row, first, n, M, block), .lda = M,
                        .ldb = H, .n = n, .N = H, .K = M, .c_panel = n * PANEL};
    if (f->gate) p.b = f->w_gate, p.c = f->gate + kept, multiply(&p, space);
    p.b = f->w_in + at, p.c = f->in + kept, p.finish = gelu_piece, p.with = &b;
    multiply(&p, space);
    p = (struct product){.a = hidden, .b = f->w_out + at, .c = f->y + first * M, .ldb = M, .ldc = M,
                         .n = n, .N = M, .K = H, .a_panel = n * PANEL};
    multiply(&p, space);
}

/* A thread's room for a block of rows. */
static i64 floats_of_block(const struct feed_forward *f) {
    return lesser(rows_of_block(f), rows_before(f, f->E)) * (f->M + padded_hidden(f));
}

static int run_forward(const struct feed_forward *f, int threads) {
    i64 count = list_blocks(f, NULL), each = floats_of_block(f);
    struct product_space *spaces = alloc_spaces(threads);
    float *all = malloc(threads * each * sizeof(float));
    struct rows_of_expert *blocks = malloc((count + 1) * sizeof *blocks);
    int failed = !spaces || !all || !blocks;
    if (!failed) {
        list_blocks(f, blocks);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (i64 i = 0; i < count; i++)
            forward_block(f, blocks[i], all + omp_get_thread_num() * each,
                          spaces + omp_get_thread_num());
    }
    free(spaces), free(all), free(blocks);
    return failed;
}

/* Gradients of a feed-forward, and where they go. d_y [tokens, M] is ungated. */
struct feed_forward_gradients {
    const float *d_y, *gates; /* gates [rows] of experts, else NULL */
    float *d_x, *d_gates;     /* d_x [rows, M]: of experts, of rows and not of tokens */
    float *d_w_gate, *d_w_in, *d_w_out;
    float *d_gate, *d_in, *hidden; /* of the rows of a wave, as `in` */
};

/* Gradients of the hidden units and of x for one block of a wave whose first row is `start`. */
static void backward_block(const struct feed_forward *f, const struct feed_forward_gradients *g,
                           struct rows_of_expert rows, i64 start, float *block,
                           struct product_space *space) {
    i64 M = f->M, H = f->H, n = rows.n, first = rows.first, at = rows.expert * M * H;
    i64 in_wave = (first - start) * padded_hidden(f), kept = first * padded_hidden(f);
    struct hidden_block b = {.gate = f->gate ? f->gate + kept : NULL,
                             .in = f->in + kept,
                             .d_gate = g->d_gate + in_wave,
                             .d_in = g->d_in + in_wave,
                             .hidden = g->hidden + in_wave,
                             .gates = g->gates ? g->gates + first : NULL,
                             .d_gates = g->d_gates ? g->d_gates + first : NULL,
                             .n = n};
    struct product p = {.a = gathered(g->d_y, f->token_of_row, first, n, M, block),
                        .b = f->w_out + at, .c = b.d_in, .lda = M, .ldb = M, .n = n, .N = H, .K = M,
                        .c_panel = n * PANEL, .transposed = 1, .with = &b,
                        .finish = f->gate ? geglu_piece_backward : gelu_piece_backward};
    multiply(&p, space);
    p = (struct product){.a = b.d_in, .b = f->w_in + at, .c = g->d_x + first * M, .ldb = H, .ldc = M,
                         .n = n, .N = M, .K = H, .a_panel = n * PANEL, .transposed = 1};
    multiply(&p, space);
    if (f->gate) p.a = b.d_gate, p.b = f->w_gate, p.add = 1, multiply(&p, space);
}

/* The columns [from, to) of H of d_w [M, H] += the transpose of x [n, M], times the block's d. */
static void gradient_of_in(const struct feed_forward *f, struct rows_of_expert rows, const float *d,
                           float *d_w, i64 from, i64 to, struct product_space *space) {
    i64 M = f->M, n = rows.n, high = lesser(MOST_ROWS, A_IN_CACHE / n / MICRO_ROWS * MICRO_ROWS);
    const i64 *tokens = f->token_of_row ? f->token_of_row + rows.first : NULL;
    const float *x = tokens ? f->x : f->x + rows.first * M;
    for (i64 top = 0; top < M; top += high) {
        i64 some = lesser(high, M - top);
        for (i64 k = 0; k < n; k += K_BLOCK)
            pack_tiles(x + top + (tokens ? 0 : k * M), M, tokens ? tokens + k : NULL,
                       space->tiles + k * some, some, lesser(K_BLOCK, n - k));
        for (i64 j = from; j < to; j += PANEL) {
            i64 columns = lesser(PANEL, f->H - j), whole = columns == PANEL;
            float *c = d_w + top * f->H + j, *out = whole ? c : space->ragged;
            if (!whole && rows.add) copy_columns(c, f->H, out, PANEL, some, columns);
            for (i64 k = 0; k < n; k += K_BLOCK)
                by_tiles(space->tiles + k * some, d + j * n + k * PANEL, out, whole ? f->H : PANEL,
                         some, lesser(K_BLOCK, n - k), rows.add || k);
            if (!whole) copy_columns(out, PANEL, c, f->H, some, columns);
        }
    }
}

/* The rows [from, to) of H of d_w_out [H, M] += the transpose of the block's hidden units, times
 * d_y. */
static void gradient_of_out(const struct feed_forward *f, const struct feed_forward_gradients *g,
                            struct rows_of_expert rows, const float *hidden, float *d_w, i64 from,
                            i64 to, struct product_space *space) {
    i64 M = f->M, n = rows.n, at_once = A_IN_CACHE / n / PANEL * PANEL;
    const i64 *tokens = f->token_of_row ? f->token_of_row + rows.first : NULL;
    const float *d_y = tokens ? g->d_y : g->d_y + rows.first * M;
    for (i64 left = 0; left < M; left += at_once) {
        i64 width = lesser(at_once, M - left);
        pack_rows(d_y + left, M, tokens, space->tiles, n, width);
        for (i64 h = from; h < to; h += PANEL)
            for (i64 j = 0; j < width; j += PANEL) {
                i64 high = lesser(PANEL, f->H - h), columns = lesser(PANEL, width - j);
                float *c = d_w + h * M + left + j, *out = columns == PANEL ? c : space->ragged;
                i64 ldc = columns == PANEL ? M : PANEL;
                if (out != c && rows.add) copy_columns(c, M, out, PANEL, high, columns);
                for (i64 k = 0; k < n; k += K_BLOCK)
                    by_columns(hidden + h * n + k * PANEL, PANEL, space->tiles + j * n + k * PANEL,
                               out, ldc, high, lesser(K_BLOCK, n - k), rows.add || k);
                if (out != c) copy_columns(out, PANEL, c, M, high, columns);
            }
    }
}

/* `part` of `parts` of what a block of a wave adds to the gradients of its expert's weights. */
static void weights_backward(const struct feed_forward *f, const struct feed_forward_gradients *g,
                             struct rows_of_expert rows, i64 start, i64 part, i64 parts,
                             struct product_space *space) {
    i64 at = rows.expert * f->M * f->H, in_wave = (rows.first - start) * padded_hidden(f);
    i64 panels = (f->H + PANEL - 1) / PANEL;
    i64 from = panels * part / parts * PANEL, to = panels * (part + 1) / parts * PANEL;
    gradient_of_in(f, rows, g->d_in + in_wave, g->d_w_in + at, from, to, space);
    if (f->gate) gradient_of_in(f, rows, g->d_gate + in_wave, g->d_w_gate, from, to, space);
    gradient_of_out(f, g, rows, g->hidden + in_wave, g->d_w_out + at, from, to, space);
}

/* The end of the wave of blocks that begins with `from`: up to WAVE rows. */
static i64 end_of_wave(const struct rows_of_expert *blocks, i64 from, i64 count) {
    i64 rows = blocks[from].n, i = from + 1;
    for (; i < count && rows + blocks[i].n <= WAVE; i++) rows += blocks[i].n;
    return i;
}

/* The first of the blocks [from, to) of the `wanted`-th expert among them; `to` where there is
 * none. */
static i64 find_expert(const struct rows_of_expert *blocks, i64 from, i64 to, i64 wanted) {
    for (i64 i = from; i < to; i++)
        if ((i == from || blocks[i].expert != blocks[i - 1].expert) && !wanted--) return i;
    return to;
}

static i64 count_experts(const struct rows_of_expert *blocks, i64 from, i64 to) {
    i64 experts = 0;
    while (find_expert(blocks, from, to, experts) < to) experts++;
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
        i64 start = blocks[from].first, experts = count_experts(blocks, from, to);
        i64 parts = experts < 2 * threads ? threads : 1;
#pragma omp for schedule(dynamic)
        for (i64 i = from; i < to; i++) backward_block(f, g, blocks[i], start, block, space);
#pragma omp for schedule(dynamic)
        for (i64 i = 0; i < experts * parts; i++) {
            i64 at = find_expert(blocks, from, to, i / parts), expert = blocks[at].expert;
            for (; at < to && blocks[at].expert == expert; at++)
                weights_backward(f, g, blocks[at], start, i % parts, parts, space);
        }
    }
}

/* The hidden units of a wave, three times. */
static float *alloc_wave(const struct feed_forward *f, struct feed_forward_gradients *g) {
    i64 size = lesser(WAVE, rows_before(f, f->E)) * padded_hidden(f);
    float *wave = malloc((3 * size + 1) * sizeof(float));
    g->d_in = wave, g->hidden = wave + size, g->d_gate = wave + 2 * size;
    return wave;
}

static int run_backward(const struct feed_forward *f, struct feed_forward_gradients g, int threads) {
    i64 count = list_blocks(f, NULL), each = floats_of_block(f);
    struct product_space *spaces = alloc_spaces(threads);
    float *wave = alloc_wave(f, &g), *all = malloc(threads * each * sizeof(float));
    struct rows_of_expert *blocks = malloc((count + 1) * sizeof *blocks);
    int failed = !spaces || !wave || !all || !blocks;
    if (!failed) {
        list_blocks(f, blocks);
#pragma omp parallel num_threads(threads)
        run_waves(f, &g, blocks, count, all + omp_get_thread_num() * each,
                  spaces + omp_get_thread_num(), threads);
    }
    free(spaces), free(wave), free(all), free(blocks);
    return failed;
}

/* y [rows, M], ungated, of x [tokens, M] by w_in [E, M, H] and w_out [E, H, M]; first_row [E + 1],
 * token_of_row [rows]. in [rows, H rounded up to TILE] is kept for the backward pass. Returns 1 where there is no
 * memory. Reference: reference_experts. */
int experts_forward_f32(const float *x, const float *w_in, const float *w_out,
                        const i64 *first_row, const i64 *token_of_row, float *in, float *y, i64 E,
                        i64 M, i64 H, int w_is_f32, int threads) {
    (void)w_is_f32;
    struct feed_forward f = {.x = x, .w_in = w_in, .w_out = w_out, .first_row = first_row,
                             .token_of_row = token_of_row, .in = in, .y = y, .E = E, .M = M, .H = H};
    return run_forward(&f, threads);
}

/* From d_y [tokens, M], ungated, and gates [rows]: d_rows [rows, M], d_gates [rows], and the
 * gradients of the weights. Returns 1 where there is no memory.
 * Reference: reference_experts_backward. */
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
 * NULL. gate and in, [rows, H rounded up to TILE], are kept for the backward pass. Returns 1 where there is no memory.
 * Reference: reference_feed_forward. */
int feed_forward_f32(const float *x, const float *w_gate, const float *w_in, const float *w_out,
                     float *gate, float *in, float *y, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward f = {.x = x, .w_gate = w_gate, .w_in = w_in, .w_out = w_out, .gate = gate,
                             .in = in, .y = y, .rows = rows, .E = 1, .M = M, .H = H};
    return run_forward(&f, threads);
}

/* From d_y [rows, M]: d_x [rows, M] and the gradients of the weights, d_w_gate NULL for the plain
 * form. Returns 1 where there is no memory.
 * Reference: reference_feed_forward. */
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

/* y [rows, N] = x [rows, K] w [K, N]. Returns 1 where there is no memory.
 * Reference: reference_product. */
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
 * there is no memory. Reference: reference_product of the transposes. */
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
