/* Feed-forwards in bfloat16, whole: GEGLU, its plain form, and what an expert does with its rows
 * (feed_forward.h has their formulas). M and H are multiples of TILE; weights of those without
 * experts are float32.
 *
 * Rows go through all products a block at a time. The products with w_gate and w_in are kept for the
 * backward pass in panels [H / TILE, rows, TILE], rounded to bfloat16, and GELU is of what is kept,
 * forward and backward. There GRADIENT_ROWS rows at a time get the gradients of
 * their hidden units, and then their part of the weights'. */

/* A feed-forward, and its gradients in the backward pass. gate and in, [rows, H], are what is kept;
 * w_gate, gate and their gradients are NULL without GEGLU. An expert has tokens [rows], of which its
 * rows of x and d_y are, and gates [rows]; the others have NULL for these. */
struct feed_forward_bf16 {
    const bf16 *x;
    const i64 *tokens;
    const float *gates;
    const float *w_gate, *w_in, *w_out;
    bf16 *gate, *in, *y;
    i64 rows, M, H, high; /* rows of a block */
    const bf16 *d_y;
    bf16 *d_x;
    float *d_gates, *d_w_gate, *d_w_in, *d_w_out;
};

/* Weights packed for the products of a pass, which all threads share. */
struct packed_feed_forward {
    bf16 *w_gate, *w_in, *w_out;
};

/* Of GRADIENT_ROWS rows, which all threads share too: the transposes of x and d_y [M, rows], and
 * packed the gradients of the hidden units, and themselves [rows, H]. */
struct wave_bf16 {
    bf16 *x, *d_y, *d_gate, *d_in, *hidden;
    float *d_w_out; /* panels [H / TILE, M, TILE] of its transpose, the sum so far */
    i64 deep;       /* rows of this wave, padded to a multiple of TILE */
};

/* What a thread needs for a block of rows. */
struct block_bf16 {
    float *product, *piece;              /* [high, TILE], [TILE, WIDE_TILE] */
    bf16 *x, *d_y, *scratch;             /* [high, M], or of `scratch` [TILE, H] */
    bf16 *tile, *hidden, *d_gate, *d_in; /* [high, TILE]; [high, ld], one place for two */
    i64 ld;
};

/* Lays a block out from `at` on, and returns its bytes. */
static i64 layout_block_bf16(const struct feed_forward_bf16 *f, struct block_bf16 *out, char *at) {
    char *start = at;
    i64 M = f->M, H = f->H, high = f->high, size = sizeof(bf16);
    i64 of_rows = size * high * M, of_hidden = size * high * (out->ld = H + TILE);
    out->x = arena_take(&at, of_rows);
    out->d_y = arena_take(&at, of_rows);
    out->scratch = arena_take(&at, of_rows > size * TILE * H ? of_rows : size * TILE * H);
    out->product = arena_take(&at, high * TILE * sizeof(float));
    out->piece = arena_take(&at, TILE * WIDE_TILE * sizeof(float));
    out->tile = arena_take(&at, size * high * TILE);
    out->hidden = out->d_in = arena_take(&at, of_hidden);
    out->d_gate = arena_take(&at, of_hidden);
    return at - start;
}

/* Lays out what all threads share from `at` on, and returns its bytes. */
static i64 layout_packed(const struct feed_forward_bf16 *f, struct packed_feed_forward *out,
                         struct wave_bf16 *wave, char *at) {
    char *start = at;
    i64 M = f->M, H = f->H, size = sizeof(bf16), rows = GRADIENT_ROWS;
    out->w_gate = arena_take(&at, f->gate ? size * M * H : 0);
    out->w_in = arena_take(&at, size * M * H);
    out->w_out = arena_take(&at, size * M * H);
    if (!wave) return at - start;
    wave->x = arena_take(&at, size * rows * M);
    wave->d_y = arena_take(&at, size * rows * M);
    wave->d_gate = arena_take(&at, f->gate ? size * rows * H : 0);
    wave->d_in = arena_take(&at, size * rows * H);
    wave->hidden = arena_take(&at, size * rows * H);
    wave->d_w_out = arena_take(&at, sizeof(float) * M * H);
    return at - start;
}

/* One arena for all of it, which the caller frees, and where the blocks begin; NULL where there is
 * no memory. */
static char *alloc_feed_forward_bf16(const struct feed_forward_bf16 *f,
                                     struct packed_feed_forward *packed, struct wave_bf16 *wave,
                                     char **blocks, i64 *of_block, int threads) {
    static char nowhere[64] __attribute__((aligned(64)));
    struct block_bf16 unused;
    i64 shared = layout_packed(f, packed, wave, nowhere);
    *of_block = layout_block_bf16(f, &unused, nowhere);
    char *arena = aligned_alloc(64, shared + threads * *of_block);
    if (arena) layout_packed(f, packed, wave, arena);
    *blocks = arena + shared;
    return arena;
}

/* Rows [first, first + n) through all products. */
static void block_forward_bf16(const struct feed_forward_bf16 *f,
                               const struct packed_feed_forward *w, i64 first, i64 n,
                               struct block_bf16 *b) {
    i64 M = f->M, H = f->H, some = round_up(n, 16);
    const bf16 *x = rows_of_bf16(f->x, f->tokens, first, n, M, b->x);
    for (i64 j = 0; j < H; j += TILE) {
        i64 kept = j * f->rows + first * TILE;
        bf16 *in = f->in + kept, *gate = f->gate ? f->gate + kept : NULL;
        gemm_tile_bf16(x, M, w->w_in, b->product, some, j, M);
        store_tile_bf16(b->product, in, n, TILE);
        if (f->gate) {
            gemm_tile_bf16(x, M, w->w_gate, b->product, some, j, M);
            store_tile_bf16(b->product, gate, n, TILE);
        }
        for (i64 i = 0; i < n; i++) {
            bf16 *hidden = b->hidden + i * b->ld + j;
            if (f->gate) geglu_tile_bf16(gate + i * TILE, in + i * TILE, hidden);
            else gelu_tile_bf16(in + i * TILE, hidden);
        }
    }
    for (i64 i = n; i < some; i++) memset(b->hidden + i * b->ld, 0, H * sizeof(bf16));
    const struct narrow_product p = {.a = b->hidden,
                                     .w = w->w_out,
                                     .y = f->y + first * M,
                                     .lda = b->ld,
                                     .n = n,
                                     .N = M,
                                     .K = H};
    multiply_narrow(&p, b->piece);
}

/* y [rows, M] of x [rows, M]: GEGLU by w_gate [M, H], or the plain form where w_gate and `gate`
 * are NULL. gate and in, [rows, H], are kept for the backward pass. Returns 1 where there is no
 * memory. Reference: reference_feed_forward. */
int feed_forward_bf16(const bf16 *x, const float *w_gate, const float *w_in, const float *w_out,
                      bf16 *gate, bf16 *in, bf16 *y, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward_bf16 f = {.x = x,
                                  .w_gate = w_gate,
                                  .w_in = w_in,
                                  .w_out = w_out,
                                  .gate = gate,
                                  .in = in,
                                  .y = y,
                                  .rows = rows,
                                  .M = M,
                                  .H = H,
                                  .high = rows_of_block_bf16(rows, threads)};
    struct packed_feed_forward packed;
    char *blocks;
    i64 of_block;
    char *arena = alloc_feed_forward_bf16(&f, &packed, NULL, &blocks, &of_block, threads);
    if (!arena) return 1;
#pragma omp parallel num_threads(threads)
    {
        struct block_bf16 block;
        layout_block_bf16(&f, &block, blocks + omp_get_thread_num() * of_block);
        begin_products_bf16();
        if (gate) pack_weight(w_gate, packed.w_gate, M, H);
        pack_weight(w_in, packed.w_in, M, H);
        pack_weight(w_out, packed.w_out, H, M);
#pragma omp for
        for (i64 r = 0; r < rows; r += f.high)
            block_forward_bf16(&f, &packed, r, lesser(f.high, rows - r), &block);
        end_products_bf16();
    }
    free(arena);
    return 0;
}

/* Lays n rows of a tile of columns out for the weights' gradient: as pairs from row `at` of the wave
 * on, with zeros up to a multiple of TILE. */
static void lay_out_tile(bf16 *tile, i64 ld, bf16 *panels, i64 n, i64 j, i64 at, i64 deep) {
    i64 padded = round_up_tile(n);
    for (i64 i = n; i < padded; i++) memset(tile + i * ld, 0, TILE * sizeof(bf16));
    pack_pairs(tile, ld, (uint32_t *)(panels + j * deep + at * TILE), padded, TILE, TILE, 0);
}

/* Gradients of the hidden units of rows [first, first + n), which are rows from `at` on of the
 * wave. */
static void hidden_backward_bf16(const struct feed_forward_bf16 *f, const bf16 *d_y,
                                 const struct packed_feed_forward *w, const struct wave_bf16 *wave,
                                 i64 first, i64 n, i64 at, struct block_bf16 *b) {
    i64 M = f->M, H = f->H, ld = b->ld;
    for (i64 j = 0; j < H; j += TILE) {
        i64 kept = j * f->rows + first * TILE;
        bf16 *in = f->in + kept, *gate = f->gate ? f->gate + kept : NULL;
        gemm_tile_bf16(d_y, M, w->w_out, b->product, round_up(n, 16), j, M);
        for (i64 i = 0; i < n; i++) {
            const float *d = b->product + i * TILE;
            bf16 *d_in = b->d_in + i * ld + j, *hidden = b->tile + i * TILE;
            if (f->gate)
                geglu_tile_backward_bf16(d, gate + i * TILE, in + i * TILE, b->d_gate + i * ld + j,
                                         d_in, hidden);
            else {
                float of_gate = gelu_tile_backward_bf16(
                    d, in + i * TILE, f->gates ? f->gates[first + i] : 1.0f, d_in, hidden);
                if (f->gates) f->d_gates[first + i] = of_gate + (j ? f->d_gates[first + i] : 0.0f);
            }
        }
        lay_out_tile(b->tile, TILE, wave->hidden, n, j, at, wave->deep);
        lay_out_tile(b->d_in + j, ld, wave->d_in, n, j, at, wave->deep);
        if (f->gate) lay_out_tile(b->d_gate + j, ld, wave->d_gate, n, j, at, wave->deep);
    }
}

/* d_x of rows [first, first + n), and what they give to the weights' gradients. */
static void block_backward_bf16(const struct feed_forward_bf16 *f,
                                const struct packed_feed_forward *w, const struct wave_bf16 *wave,
                                i64 first, i64 n, i64 at, struct block_bf16 *b) {
    i64 M = f->M, H = f->H, padded = round_up_tile(n);
    const bf16 *x = rows_of_bf16(f->x, f->tokens, first, n, M, b->x);
    const bf16 *d_y = rows_of_bf16(f->d_y, f->tokens, first, n, M, b->d_y);
    hidden_backward_bf16(f, d_y, w, wave, first, n, at, b);
    const struct narrow_product p = {.a = b->d_in,
                                     .w = w->w_in,
                                     .other = f->gate ? b->d_gate : NULL,
                                     .w_other = w->w_gate,
                                     .y = f->d_x + first * M,
                                     .lda = b->ld,
                                     .n = n,
                                     .N = M,
                                     .K = H};
    multiply_narrow(&p, b->piece);
    transpose_rows_bf16(x, wave->x + at, padded, M, wave->deep, b->scratch);
    transpose_rows_bf16(d_y, wave->d_y + at, padded, M, wave->deep, b->scratch);
}

/* Columns [j, j + TILE) of d_w [M, H] += the transpose of x, times the wave's gradients. */
static void gradient_tile_bf16(const bf16 *transposed, const bf16 *panels, float *d_w, i64 ld,
                               i64 j, i64 M, i64 deep, int add) {
    gemm_bf16(transposed, deep, panels + j * deep, TILE * deep, d_w, ld, M, TILE, deep, add);
}

/* What a wave, the last or another one, adds to the gradients of the weights in columns [j, j + TILE)
 * of H. */
static void weights_backward_bf16(const struct feed_forward_bf16 *f, const struct wave_bf16 *wave,
                                  i64 j, int add, int last) {
    i64 M = f->M, H = f->H, deep = wave->deep;
    float *out = wave->d_w_out + j * M;
    gradient_tile_bf16(wave->x, wave->d_in, f->d_w_in + j, H, j, M, deep, add);
    if (f->gate) gradient_tile_bf16(wave->x, wave->d_gate, f->d_w_gate + j, H, j, M, deep, add);
    gradient_tile_bf16(wave->d_y, wave->hidden, out, TILE, j, M, deep, add);
    if (last) transpose_u32((uint32_t *)out, (uint32_t *)(f->d_w_out + j * M), M, TILE);
}

/* The wave of rows from `first` on. Every thread runs it. */
static void run_wave_bf16(const struct feed_forward_bf16 *f, const struct packed_feed_forward *w,
                          struct wave_bf16 wave, i64 first, struct block_bf16 *block) {
    i64 some = lesser(GRADIENT_ROWS, f->rows - first);
    wave.deep = round_up_tile(some);
#pragma omp for
    for (i64 r = 0; r < some; r += f->high)
        block_backward_bf16(f, w, &wave, first + r, lesser(f->high, some - r), r, block);
#pragma omp for
    for (i64 j = 0; j < f->H; j += TILE)
        weights_backward_bf16(f, &wave, j, first > 0, first + some == f->rows);
}

/* From d_y [rows, M]: d_x [rows, M] and the gradients of the weights, d_w_gate NULL for the plain
 * form. Returns 1 where there is no memory.
 * Reference: reference_feed_forward. */
int feed_forward_backward_bf16(const bf16 *x, const bf16 *d_y, const float *w_gate,
                               const float *w_in, const float *w_out, const bf16 *gate,
                               const bf16 *in, bf16 *d_x, float *d_w_gate, float *d_w_in,
                               float *d_w_out, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward_bf16 f = {.x = x,
                                  .w_gate = w_gate,
                                  .w_in = w_in,
                                  .w_out = w_out,
                                  .gate = (bf16 *)gate,
                                  .in = (bf16 *)in,
                                  .rows = rows,
                                  .M = M,
                                  .H = H,
                                  .high = rows_of_block_bf16(lesser(rows, GRADIENT_ROWS), threads),
                                  .d_y = d_y,
                                  .d_x = d_x,
                                  .d_w_gate = d_w_gate,
                                  .d_w_in = d_w_in,
                                  .d_w_out = d_w_out};
    struct packed_feed_forward packed;
    struct wave_bf16 wave;
    char *blocks;
    i64 of_block;
    char *arena = alloc_feed_forward_bf16(&f, &packed, &wave, &blocks, &of_block, threads);
    if (!arena) return 1;
#pragma omp parallel num_threads(threads)
    {
        struct block_bf16 block;
        layout_block_bf16(&f, &block, blocks + omp_get_thread_num() * of_block);
        begin_products_bf16();
        if (gate) pack_weight_t(w_gate, packed.w_gate, M, H, block.scratch);
        pack_weight_t(w_in, packed.w_in, M, H, block.scratch);
        pack_weight_t(w_out, packed.w_out, H, M, block.scratch);
        for (i64 first = 0; first < rows; first += GRADIENT_ROWS)
            run_wave_bf16(&f, &packed, wave, first, &block);
        end_products_bf16();
    }
    free(arena);
    return 0;
}
