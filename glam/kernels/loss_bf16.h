/* Logits of the tied output embedding, their cross-entropy and its gradients, in bfloat16 with
 * AMX. Logits are float32 and exist one block at a time, in the L1 cache. They are computed twice,
 * for the sums of exponentials and then for the gradients, as in Cut Cross-Entropy (Wijmans et
 * al., arXiv 2411.09009): one more product costs less than [tokens, V] in memory.
 *
 * The vocabulary goes in tiles, each of which meets all tokens, so that the gradient of `w` is
 * written once and only that of `x` is added to. */

#define BLOCK_ROWS 64     /* of a block of logits */
#define BLOCK_COLUMNS 128 /* of a block of logits */
#define LANES 16          /* running sums of a token, one for each lane of a vector */
#define TOKEN_TILE 256    /* tokens whose logit gradients are kept together */
#define VOCAB_TILE 65536  /* elements of a tile of `w`, rounded up to BLOCK_COLUMNS rows */
#define NO_LOGIT (-3e38f) /* of a padding column; finite: the difference of two is a number */
#define LD_PAD_BF16 32    /* elements between rows of gradients, as LD_PAD */

/* The arguments of `output_loss_bf16`. */
struct loss_args {
    const bf16 *x;
    const void *w;
    const i64 *targets;
    float *losses;
    bf16 *d_x;
    void *d_w;
    i64 tokens, M, V;
    float cap, scale;
    int w_is_f32;
};

/* Sizes and buffers that all threads share. A `packed` buffer is in panels, as of gemm.h. */
struct loss_state {
    struct loss_args in;
    i64 rows, columns;           /* tokens, padded; rows of `w` in a whole vocabulary tile */
    bf16 *x, *transposed;        /* [rows, M]; [M, TOKEN_TILE] for every TOKEN_TILE tokens */
    float *sums;                 /* [rows, 2, LANES]: maxima, sums of exponentials below them */
    float *row_max, *inv_sum;    /* [rows]: over all lanes; 1 / sum of exponentials */
    bf16 *w, *packed_t, *packed; /* a tile [columns, M]; packed for logits, and for d_x */
    bf16 *d_logits, *d_panels;   /* [TOKEN_TILE, columns], and packed for d_w */
    float *d_x, *d_w;            /* [rows, M]; panels of a tile's [M, columns] */
    float *blocks, *scratches;   /* per thread: [BLOCK_ROWS, BLOCK_COLUMNS], [TOKEN_TILE, M] */
};

/* Lays the buffers of `out` out from `at` on and returns their bytes. */
static i64 layout_arena(struct loss_state *out, char *at, int threads) {
    char *start = at;
    i64 M = out->in.M, rows = out->rows, tile = out->columns * M;
    i64 with_gradient = out->in.d_x != NULL;
    i64 b16 = sizeof(bf16), f32 = sizeof(float), kept = with_gradient * TOKEN_TILE * b16;
    out->x = arena_take(&at, b16 * rows * M);
    out->w = arena_take(&at, b16 * tile);
    out->packed_t = arena_take(&at, b16 * tile);
    out->sums = arena_take(&at, f32 * rows * 2 * LANES);
    out->row_max = arena_take(&at, f32 * rows);
    out->inv_sum = arena_take(&at, f32 * rows);
    out->blocks = arena_take(&at, f32 * threads * BLOCK_ROWS * BLOCK_COLUMNS);
    out->scratches = arena_take(&at, f32 * threads * TOKEN_TILE * M * with_gradient);
    out->transposed = arena_take(&at, b16 * rows * M * with_gradient);
    out->packed = arena_take(&at, b16 * tile * with_gradient);
    out->d_logits = arena_take(&at, kept * (out->columns + LD_PAD_BF16));
    out->d_panels = arena_take(&at, kept * out->columns);
    out->d_x = arena_take(&at, f32 * rows * M * with_gradient);
    out->d_w = arena_take(&at, f32 * tile * with_gradient);
    return at - start;
}

/* Sets sizes and takes all buffers from one arena, which the caller frees; NULL where there is no
 * memory. */
static char *alloc_loss_state(struct loss_state *out, int threads) {
    static char nowhere[64] __attribute__((aligned(64)));
    out->rows = round_up_tile(out->in.tokens);
    out->columns = lesser(round_up(VOCAB_TILE / out->in.M + 1, BLOCK_COLUMNS),
                        round_up(out->in.V, BLOCK_COLUMNS));
    char *arena = aligned_alloc(64, layout_arena(out, nowhere, threads));
    if (arena) layout_arena(out, arena, threads);
    return arena;
}

/* The functions below are called by every thread of a parallel region: each `omp for` shares its
 * loop among them and ends with a barrier. */

/* Copies the tokens and pads them with zeros; resets their sums. */
static void load_tokens(struct loss_state *out, bf16 *scratch) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 r = 0; r < out->rows; r += TOKEN_TILE) {
        i64 n = lesser(TOKEN_TILE, out->rows - r), valid = lesser(n, out->in.tokens - r);
        memcpy(out->x + r * M, out->in.x + r * M, valid * M * sizeof(bf16));
        memset(out->x + (r + valid) * M, 0, (n - valid) * M * sizeof(bf16));
        if (out->in.d_x) transpose_bf16(out->x + r * M, out->transposed + r * M, n, M, scratch);
        for (i64 i = r * 2; i < (r + n) * 2; i++)
            for (i64 j = 0; j < LANES; j++) out->sums[i * LANES + j] = i % 2 ? 0.0f : NO_LOGIT;
    }
}

/* Loads the vocabulary tile of `columns` rows of `w` from `first` on, padded with zeros, and packs
 * it: `packed_t` for the logits, `packed` for the gradient of the tokens. */
static void load_vocab_tile(struct loss_state *out, i64 first, i64 columns, int backward) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 j = 0; j < columns; j += BLOCK_COLUMNS) {
        i64 valid = lesser(BLOCK_COLUMNS, out->in.V - first - j), at = (first + j) * M;
        bf16 *rows = out->w + j * M;
        if (out->in.w_is_f32)
            narrow_row_bf16((const float *)out->in.w + at, rows, valid * M);
        else
            memcpy(rows, (const bf16 *)out->in.w + at, valid * M * sizeof(bf16));
        memset(rows + valid * M, 0, (BLOCK_COLUMNS - valid) * M * sizeof(bf16));
        pack_t_bf16(rows, M, out->packed_t + j * M, BLOCK_COLUMNS, M);
        if (backward)
            pack_pairs(rows, M, (uint32_t *)(out->packed + j * TILE), BLOCK_COLUMNS, M, TILE,
                       TILE * columns / 2);
    }
}

/* block [rows, BLOCK_COLUMNS] = logits of tokens from `row` on, of columns from `column` of the
 * vocabulary tile on. */
static void logits_of_block(struct loss_state *out, float *block, i64 row, i64 rows, i64 column) {
    i64 M = out->in.M;
    gemm_bf16(out->x + row * M, M, out->packed_t + column * M, TILE * M, block, BLOCK_COLUMNS, rows,
              BLOCK_COLUMNS, M, 0);
}

/* Soft cap of a row of a block: x = cap * tanh(x / cap), slope = its derivative. */
static inline void softcap(float *x, float *slope, const float cap) {
    const float inv_cap = 1.0f / cap;
#pragma omp simd
    for (i64 j = 0; j < BLOCK_COLUMNS; j++) {
        float tanh_x = tanh_(x[j] * inv_cap);
        x[j] = cap * tanh_x;
        slope[j] = 1.0f - tanh_x * tanh_x;
    }
}

/* Adds a row of a block to running maxima and sums of exponentials (online softmax), lane by lane,
 * so that no lane waits for another. */
static inline void add_to_sums(const float *x, float *sums) {
    float *row_max = sums, *total = sums + LANES;
#pragma omp simd
    for (i64 j = 0; j < LANES; j++) {
        float top = row_max[j];
        for (i64 c = 0; c < BLOCK_COLUMNS; c += LANES) top = fmax_(x[c + j], top);
        float sum = total[j] * exp_or_tiny(row_max[j] - top);
        for (i64 c = 0; c < BLOCK_COLUMNS; c += LANES) sum += exp_or_tiny(x[c + j] - top);
        row_max[j] = top;
        total[j] = sum;
    }
}

/* Adds a vocabulary tile to the sums of every token. Until `finish_losses`, `losses` holds the
 * logits of the targets. */
static void sum_vocab_tile(struct loss_state *out, float *block, i64 first, i64 columns) {
    float slope[BLOCK_COLUMNS];
#pragma omp for
    for (i64 r = 0; r < out->rows; r += BLOCK_ROWS) {
        i64 rows = lesser(BLOCK_ROWS, out->rows - r);
        for (i64 j = 0; j < columns; j += BLOCK_COLUMNS) {
            i64 valid = lesser(BLOCK_COLUMNS, out->in.V - first - j);
            logits_of_block(out, block, r, rows, j);
            for (i64 i = r; i < r + rows; i++) {
                float *x = block + (i - r) * BLOCK_COLUMNS;
                if (out->in.cap > 0.0f) softcap(x, slope, out->in.cap);
                for (i64 c = valid; c < BLOCK_COLUMNS; c++) x[c] = NO_LOGIT;
                add_to_sums(x, out->sums + i * 2 * LANES);
                i64 target = i < out->in.tokens ? out->in.targets[i] - first - j : -1;
                if (target >= 0 && target < valid) out->in.losses[i] = x[target];
            }
        }
    }
}

/* losses [tokens] = log(sum of exponentials) - target's logit, from the sums of all lanes. */
static void finish_losses(struct loss_state *out) {
#pragma omp for
    for (i64 i = 0; i < out->rows; i++) {
        const float *each = out->sums + i * 2 * LANES, *sums = each + LANES;
        float row_max = NO_LOGIT, total = 0.0f;
        for (i64 j = 0; j < LANES; j++) row_max = fmax_(each[j], row_max);
        for (i64 j = 0; j < LANES; j++) total += sums[j] * exp_or_tiny(each[j] - row_max);
        out->row_max[i] = row_max;
        out->inv_sum[i] = 1.0f / total;
        if (i < out->in.tokens) out->in.losses[i] = row_max - out->in.losses[i] + logf(total);
    }
}

/* x [BLOCK_COLUMNS] from a token's logits to their gradients, 0 from `valid` on; the target counts
 * where it is within. */
static inline void gradient_of_row(float *x, float row_max, float inv_sum, i64 target, i64 valid,
                                   const float cap) {
    float slope[BLOCK_COLUMNS];
    if (cap > 0.0f) softcap(x, slope, cap);
#pragma omp simd
    for (i64 j = 0; j < BLOCK_COLUMNS; j++) x[j] = exp_or_tiny(x[j] - row_max) * inv_sum;
    if (target >= 0 && target < valid) x[target] -= 1.0f;
    if (cap > 0.0f)
#pragma omp simd
        for (i64 j = 0; j < BLOCK_COLUMNS; j++) x[j] *= slope[j];
    for (i64 j = valid; j < BLOCK_COLUMNS; j++) x[j] = 0.0f;
}

/* Gradients of the logits of `n` tokens in a vocabulary tile, as rows and packed, and their part
 * of d_x. */
static void rows_backward(struct loss_state *out, float *block, i64 row, i64 n, i64 first,
                          i64 columns) {
    i64 M = out->in.M, ld = columns + LD_PAD_BF16;
#pragma omp for
    for (i64 r = 0; r < n; r += BLOCK_ROWS) {
        i64 rows = lesser(BLOCK_ROWS, n - r);
        bf16 *d = out->d_logits + r * ld;
        for (i64 j = 0; j < columns; j += BLOCK_COLUMNS) {
            i64 valid = lesser(BLOCK_COLUMNS, out->in.V - first - j);
            logits_of_block(out, block, row + r, rows, j);
            for (i64 i = 0; i < rows; i++) {
                i64 token = row + r + i, there = token < out->in.tokens;
                i64 target = there ? out->in.targets[token] - first - j : -1;
                float *x = block + i * BLOCK_COLUMNS;
                gradient_of_row(x, out->row_max[token], out->inv_sum[token], target,
                                there ? valid : 0, out->in.cap);
                narrow_row_bf16(x, d + i * ld + j, BLOCK_COLUMNS);
            }
            pack_pairs(d + j, ld, (uint32_t *)(out->d_panels + j * n + r * TILE), rows,
                       BLOCK_COLUMNS, TILE, TILE * n / 2);
        }
        gemm_bf16(d, ld, out->packed, TILE * columns, out->d_x + (row + r) * M, M, rows, M, columns,
                  first > 0);
    }
}

/* These tokens' part of the vocabulary tile's d_w. */
static void columns_backward(struct loss_state *out, i64 row, i64 n, i64 columns) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 j = 0; j < columns; j += TILE)
        gemm_bf16(out->transposed + row * M, n, out->d_panels + j * n, TILE * n, out->d_w + j * M,
                  TILE, M, TILE, n, row > 0);
}

/* x [n] *= scale. */
static void scale_row(float *x, float scale, i64 n) {
#pragma omp simd
    for (i64 j = 0; j < n; j++) x[j] *= scale;
}

/* Transposes, scales and stores the gradient of a vocabulary tile. */
static void store_vocab_tile(struct loss_state *out, float *scratch, i64 first, i64 columns) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 j = 0; j < columns; j += TILE) {
        i64 valid = lesser(TILE, out->in.V - first - j), at = (first + j) * M;
        if (valid <= 0) continue;
        transpose_u32((uint32_t *)(out->d_w + j * M), (uint32_t *)scratch, M, TILE);
        scale_row(scratch, out->in.scale, valid * M);
        if (out->in.w_is_f32)
            memcpy((float *)out->in.d_w + at, scratch, valid * M * sizeof(float));
        else
            narrow_row_bf16(scratch, (bf16 *)out->in.d_w + at, valid * M);
    }
}

/* Scales and stores the gradient of the tokens. */
static void store_tokens(struct loss_state *out) {
    i64 M = out->in.M;
#pragma omp for
    for (i64 i = 0; i < out->in.tokens; i++) {
        scale_row(out->d_x + i * M, out->in.scale, M);
        narrow_row_bf16(out->d_x + i * M, out->in.d_x + i * M, M);
    }
}

/* What every thread runs: a pass over the vocabulary for the losses, and a second one for the
 * gradients. */
static void output_loss_thread(struct loss_state *out) {
    i64 thread = omp_get_thread_num(), V = out->in.V;
    float *block = out->blocks + thread * BLOCK_ROWS * BLOCK_COLUMNS;
    float *scratch = out->scratches + thread * TOKEN_TILE * out->in.M;
    load_tokens(out, (bf16 *)scratch);
    for (i64 first = 0; first < V; first += out->columns) {
        i64 columns = lesser(out->columns, round_up(V - first, BLOCK_COLUMNS));
        load_vocab_tile(out, first, columns, 0);
        sum_vocab_tile(out, block, first, columns);
    }
    finish_losses(out);
    if (!out->in.d_x) return;
    for (i64 first = 0; first < V; first += out->columns) {
        i64 columns = lesser(out->columns, round_up(V - first, BLOCK_COLUMNS));
        load_vocab_tile(out, first, columns, 1);
        for (i64 row = 0; row < out->rows; row += TOKEN_TILE) {
            i64 n = lesser(TOKEN_TILE, out->rows - row);
            rows_backward(out, block, row, n, first, columns);
            columns_backward(out, row, n, columns);
        }
        store_vocab_tile(out, scratch, first, columns);
    }
    store_tokens(out);
}

/* losses [tokens] in nats of x [tokens, M] by the tied embedding w [V, M], which is float32 where
 * `w_is_f32`, else bfloat16. Unless d_x is NULL: d_x and d_w, the gradients of the losses' sum
 * times `scale`, in the types of x and w. With cap > 0 logits are cap * tanh(logits / cap).
 *
 * Returns 1 where a target is outside the vocabulary, -1 where there is no memory.
 * Reference: reference_output_loss. */
int output_loss_bf16(const bf16 *x, const void *w, const i64 *targets, float *losses, bf16 *d_x,
                     void *d_w, i64 tokens, i64 M, i64 V, float cap, float scale, int w_is_f32,
                     int threads) {
    struct loss_state out = {
        .in = {x, w, targets, losses, d_x, d_w, tokens, M, V, cap, scale, w_is_f32}};
    for (i64 i = 0; i < tokens; i++)
        if (targets[i] < 0 || targets[i] >= V) return 1;
    char *arena = alloc_loss_state(&out, threads);
    if (!arena) return -1;
#pragma omp parallel num_threads(threads)
    {
        begin_products_bf16();
        output_loss_thread(&out);
        end_products_bf16();
    }
    free(arena);
    return 0;
}
