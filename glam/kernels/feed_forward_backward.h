/* Gradients of feed-forwards in float32, wave by wave (feed_forward.h). */

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
                        .b = f->w_out + at,
                        .c = b.d_in,
                        .lda = M,
                        .ldb = M,
                        .n = n,
                        .N = H,
                        .K = M,
                        .c_panel = n * PANEL,
                        .transposed = 1,
                        .with = &b,
                        .finish = f->gate ? geglu_piece_backward : gelu_piece_backward};
    multiply(&p, space);
    p = (struct product){.a = b.d_in,
                         .b = f->w_in + at,
                         .c = g->d_x + first * M,
                         .ldb = H,
                         .ldc = M,
                         .n = n,
                         .N = M,
                         .K = H,
                         .a_panel = n * PANEL,
                         .transposed = 1};
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

static int run_backward(const struct feed_forward *f, struct feed_forward_gradients g,
                        int threads) {
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
