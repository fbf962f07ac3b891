/* The output's logits, their cross-entropy and its gradients, whole, in bfloat16. Logits are made a
 * block at a time, which never leaves the first cache, and they are made twice: for the sums of
 * their exponentials, and then for what only those sums tell, their gradients (as Cut
 * Cross-Entropy, Wijmans et al. 2024). One more product costs less than [tokens, V] in memory.
 * Logits are in float32 throughout.
 *
 * The vocabulary goes in tiles, each of which meets all tokens: so the gradient of `w` is written
 * once, and only that of `x` is added to. */

#define BLOCK_ROWS 64
#define BLOCK_COLUMNS 128
#define LANES 16
#define ROWS_AT_ONCE 256 /* tokens whose gradients of logits are kept together */
#define TILE 65536       /* elements of `w`, or less than a block's columns more */
#define NEVER (-3e38f)   /* the logit of no token; finite, so that NEVER - NEVER is a number */
#define APART 32         /* more between rows of gradients, as ASIDE */

/* Arguments of `output_loss`. */
struct given {
    const bf16 *x;
    const void *w;
    const i64 *targets;
    float *losses;
    bf16 *d_x;
    void *d_w;
    i64 tokens, M, V;
    float cap, scale;
    int wide;
};

struct output {
    struct given in;
    i64 rows, columns;         /* tokens, filled up; of a whole tile */
    bf16 *x, *turned;          /* [rows, M]; of ROWS_AT_ONCE after others [M, as many] */
    float *sums;               /* [rows, 2, LANES]: the largest logits, and the sums above them */
    float *most, *share;       /* [rows]: of all lanes; 1 / the sum of all exponentials */
    bf16 *w, *across, *panels; /* a tile: [columns, M], and panels of both kinds */
    bf16 *d_logits, *d_panels; /* [ROWS_AT_ONCE, columns], and its panels */
    float *d_x, *d_w;          /* [rows, M]; panels of a tile's [M, columns] */
    float *blocks, *scratches; /* of each thread, [BLOCK_ROWS, BLOCK_COLUMNS], [ROWS_AT_ONCE, M] */
};

static i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* How many bytes there are from `at` on. */
static i64 lay_out(struct output *out, char *at, int threads) {
    char *start = at;
    i64 M = out->in.M, rows = out->rows, tile = out->columns * M, learns = out->in.d_x != NULL;
    i64 narrow = sizeof(bf16), wide = sizeof(float), kept = learns * ROWS_AT_ONCE * narrow;
    out->x = carve(&at, narrow * rows * M);
    out->w = carve(&at, narrow * tile);
    out->across = carve(&at, narrow * tile);
    out->sums = carve(&at, wide * rows * 2 * LANES);
    out->most = carve(&at, wide * rows);
    out->share = carve(&at, wide * rows);
    out->blocks = carve(&at, wide * threads * BLOCK_ROWS * BLOCK_COLUMNS);
    out->scratches = carve(&at, wide * threads * ROWS_AT_ONCE * M * learns);
    out->turned = carve(&at, narrow * rows * M * learns);
    out->panels = carve(&at, narrow * tile * learns);
    out->d_logits = carve(&at, kept * (out->columns + APART));
    out->d_panels = carve(&at, kept * out->columns);
    out->d_x = carve(&at, wide * rows * M * learns);
    out->d_w = carve(&at, wide * tile * learns);
    return at - start;
}

/* Returns what to free, NULL where there is no memory. */
static char *make_output(struct output *out, int threads) {
    static char nowhere[64] __attribute__((aligned(64)));
    out->rows = filled(out->in.tokens);
    out->columns =
        least(filled_to(TILE / out->in.M + 1, BLOCK_COLUMNS), filled_to(out->in.V, BLOCK_COLUMNS));
    char *all = aligned_alloc(64, lay_out(out, nowhere, threads));
    if (all) lay_out(out, all, threads);
    return all;
}

/* The loops below are for all threads together; each waits for the others at its end. */

/* Tokens, and zeros after the last. */
static void take_tokens(struct output *out, bf16 *scratch) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 r = 0; r < out->rows; r += ROWS_AT_ONCE) {
        i64 n = least(ROWS_AT_ONCE, out->rows - r), known = least(n, out->in.tokens - r);
        memcpy(out->x + r * M, out->in.x + r * M, known * M * sizeof(bf16));
        memset(out->x + (r + known) * M, 0, (n - known) * M * sizeof(bf16));
        if (out->in.d_x) turn_bf16(out->x + r * M, out->turned + r * M, n, M, scratch);
        for (i64 i = r * 2; i < (r + n) * 2; i++)
            for (i64 j = 0; j < LANES; j++) out->sums[i * LANES + j] = i % 2 ? 0.0f : NEVER;
    }
}

/* Of the vocabulary from `first` on; zeros after the last. `across` makes logits, `panels` their
 * gradients the tokens'. */
static void take_tile(struct output *out, i64 first, i64 columns, int backward) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 j = 0; j < columns; j += BLOCK_COLUMNS) {
        i64 known = least(BLOCK_COLUMNS, out->in.V - first - j), at = (first + j) * M;
        bf16 *rows = out->w + j * M;
        if (out->in.wide)
            narrow_row_bf16((const float *)out->in.w + at, rows, known * M);
        else
            memcpy(rows, (const bf16 *)out->in.w + at, known * M * sizeof(bf16));
        memset(rows + known * M, 0, (BLOCK_COLUMNS - known) * M * sizeof(bf16));
        panels_across_bf16(rows, out->across + j * M, BLOCK_COLUMNS, M);
        if (backward)
            pairs_to(rows, M, (uint32_t *)(out->panels + j * STEP), BLOCK_COLUMNS, M, STEP,
                     STEP * columns / 2);
    }
}

static void logits_of_block(struct output *out, float *block, i64 row, i64 rows, i64 column) {
    i64 M = out->in.M;
    multiply_bf16(out->x + row * M, M, out->across + column * M, STEP * M, block, BLOCK_COLUMNS,
                  rows, BLOCK_COLUMNS, M, 0);
}

/* cap * tanh(x / cap), and its slope. */
static inline void bend(float *x, float *slope, const float cap) {
    const float by = 1.0f / cap;
#pragma omp simd
    for (i64 j = 0; j < BLOCK_COLUMNS; j++) {
        float bent = tanh_(x[j] * by);
        x[j] = cap * bent;
        slope[j] = 1.0f - bent * bent;
    }
}

/* Lane by lane: none waits for another. */
static inline void add_exponentials(const float *x, float *sums) {
    float *most = sums, *total = sums + LANES;
#pragma omp simd
    for (i64 j = 0; j < LANES; j++) {
        float top = most[j];
        for (i64 c = 0; c < BLOCK_COLUMNS; c += LANES) top = larger(x[c + j], top);
        float sum = total[j] * exp_or_tiny(most[j] - top);
        for (i64 c = 0; c < BLOCK_COLUMNS; c += LANES) sum += exp_or_tiny(x[c + j] - top);
        most[j] = top;
        total[j] = sum;
    }
}

/* Until the end `losses` are the targets' logits. */
static void sum_tile(struct output *out, float *block, i64 first, i64 columns) {
    float slope[BLOCK_COLUMNS];
#pragma omp for
    for (i64 r = 0; r < out->rows; r += BLOCK_ROWS) {
        i64 rows = least(BLOCK_ROWS, out->rows - r);
        for (i64 j = 0; j < columns; j += BLOCK_COLUMNS) {
            i64 known = least(BLOCK_COLUMNS, out->in.V - first - j);
            logits_of_block(out, block, r, rows, j);
            for (i64 i = r; i < r + rows; i++) {
                float *x = block + (i - r) * BLOCK_COLUMNS;
                if (out->in.cap > 0.0f) bend(x, slope, out->in.cap);
                for (i64 c = known; c < BLOCK_COLUMNS; c++) x[c] = NEVER;
                add_exponentials(x, out->sums + i * 2 * LANES);
                i64 target = i < out->in.tokens ? out->in.targets[i] - first - j : -1;
                if (target >= 0 && target < known) out->in.losses[i] = x[target];
            }
        }
    }
}

static void finish_losses(struct output *out) {
#pragma omp for
    for (i64 i = 0; i < out->rows; i++) {
        const float *each = out->sums + i * 2 * LANES, *sums = each + LANES;
        float most = NEVER, total = 0.0f;
        for (i64 j = 0; j < LANES; j++) most = larger(each[j], most);
        for (i64 j = 0; j < LANES; j++) total += sums[j] * exp_or_tiny(each[j] - most);
        out->most[i] = most;
        out->share[i] = 1.0f / total;
        if (i < out->in.tokens) out->in.losses[i] = most - out->in.losses[i] + logf(total);
    }
}

/* A token's logits to their gradients, zeros beyond the `known`; `target` may lie elsewhere. */
static inline void gradient_of_row(float *x, float most, float share, i64 target, i64 known,
                                   const float cap) {
    float slope[BLOCK_COLUMNS];
    if (cap > 0.0f) bend(x, slope, cap);
#pragma omp simd
    for (i64 j = 0; j < BLOCK_COLUMNS; j++) x[j] = exp_or_tiny(x[j] - most) * share;
    if (target >= 0 && target < known) x[target] -= 1.0f;
    if (cap > 0.0f)
#pragma omp simd
        for (i64 j = 0; j < BLOCK_COLUMNS; j++) x[j] *= slope[j];
    for (i64 j = known; j < BLOCK_COLUMNS; j++) x[j] = 0.0f;
}

/* Gradients of a tile's logits of `n` tokens, in rows and in panels; their product is the tile's
 * part of the gradient of `x`. */
static void rows_backward(struct output *out, float *block, i64 row, i64 n, i64 first,
                          i64 columns) {
    i64 M = out->in.M, apart = columns + APART;
#pragma omp for
    for (i64 r = 0; r < n; r += BLOCK_ROWS) {
        i64 rows = least(BLOCK_ROWS, n - r);
        bf16 *d = out->d_logits + r * apart;
        for (i64 j = 0; j < columns; j += BLOCK_COLUMNS) {
            i64 known = least(BLOCK_COLUMNS, out->in.V - first - j);
            logits_of_block(out, block, row + r, rows, j);
            for (i64 i = 0; i < rows; i++) {
                i64 token = row + r + i, there = token < out->in.tokens;
                i64 target = there ? out->in.targets[token] - first - j : -1;
                float *x = block + i * BLOCK_COLUMNS;
                gradient_of_row(x, out->most[token], out->share[token], target, there ? known : 0,
                                out->in.cap);
                narrow_row_bf16(x, d + i * apart + j, BLOCK_COLUMNS);
            }
            pairs_to(d + j, apart, (uint32_t *)(out->d_panels + j * n + r * STEP), rows,
                     BLOCK_COLUMNS, STEP, STEP * n / 2);
        }
        multiply_bf16(d, apart, out->panels, STEP * columns, out->d_x + (row + r) * M, M, rows, M,
                      columns, first > 0);
    }
}

/* These tokens' part of the gradient of the tile. */
static void columns_backward(struct output *out, i64 row, i64 n, i64 columns) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 j = 0; j < columns; j += STEP)
        multiply_bf16(out->turned + row * M, n, out->d_panels + j * n, STEP * n, out->d_w + j * M,
                      STEP, M, STEP, n, row > 0);
}

static void scale_row(float *x, float scale, i64 n) {
#pragma omp simd
    for (i64 j = 0; j < n; j++) x[j] *= scale;
}

static void give_tile(struct output *out, float *scratch, i64 first, i64 columns) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 j = 0; j < columns; j += STEP) {
        i64 known = least(STEP, out->in.V - first - j), at = (first + j) * M;
        if (known <= 0) continue;
        transpose((uint32_t *)(out->d_w + j * M), (uint32_t *)scratch, M, STEP);
        scale_row(scratch, out->in.scale, known * M);
        if (out->in.wide)
            memcpy((float *)out->in.d_w + at, scratch, known * M * sizeof(float));
        else
            narrow_row_bf16(scratch, (bf16 *)out->in.d_w + at, known * M);
    }
}

static void give_tokens(struct output *out) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 i = 0; i < out->in.tokens; i++) {
        scale_row(out->d_x + i * M, out->in.scale, M);
        narrow_row_bf16(out->d_x + i * M, out->in.d_x + i * M, M);
    }
}

/* What each of the threads does. */
static void all_of_output(struct output *out) {
    i64 thread = omp_get_thread_num(), V = out->in.V;
    float *block = out->blocks + thread * BLOCK_ROWS * BLOCK_COLUMNS;
    float *scratch = out->scratches + thread * ROWS_AT_ONCE * out->in.M;
    take_tokens(out, (bf16 *)scratch);
    for (i64 first = 0; first < V; first += out->columns) {
        i64 columns = least(out->columns, filled_to(V - first, BLOCK_COLUMNS));
        take_tile(out, first, columns, 0);
        sum_tile(out, block, first, columns);
    }
    finish_losses(out);
    if (!out->in.d_x) return;
    for (i64 first = 0; first < V; first += out->columns) {
        i64 columns = least(out->columns, filled_to(V - first, BLOCK_COLUMNS));
        take_tile(out, first, columns, 1);
        for (i64 row = 0; row < out->rows; row += ROWS_AT_ONCE) {
            i64 n = least(ROWS_AT_ONCE, out->rows - row);
            rows_backward(out, block, row, n, first, columns);
            columns_backward(out, row, n, columns);
        }
        give_tile(out, scratch, first, columns);
    }
    give_tokens(out);
}

/* Losses of x [tokens, M] by the tied w [V, M], which is in float32 where `wide`; with room
 * for them, the gradients of their sum times `scale`. With a cap logits are cap * tanh(logits /
 * cap); 0: without. Returns 1 where a target is beyond the vocabulary, -1 where there is no
 * memory. */
int output_loss_bf16(const bf16 *x, const void *w, const i64 *targets, float *losses, bf16 *d_x,
                     void *d_w, i64 tokens, i64 M, i64 V, float cap, float scale, int wide,
                     int threads) {
    struct output out = {.in = {x, w, targets, losses, d_x, d_w, tokens, M, V, cap, scale, wide}};
    for (i64 i = 0; i < tokens; i++)
        if (targets[i] < 0 || targets[i] >= V) return 1;
    char *all = make_output(&out, threads);
    if (!all) return -1;
#pragma omp parallel num_threads(threads)
    {
        begin_products();
        all_of_output(&out);
        end_products();
    }
    free(all);
    return 0;
}
