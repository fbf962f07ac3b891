/* Linear maps in bfloat16 by weights in float32, and their gradients. K and N are multiples of TILE. */

/* What a thread needs for a block of `rows` rows. */
struct rows_space_bf16 {
    float *piece;           /* [TILE, WIDE_TILE] */
    bf16 *a, *b, *scratch; /* [rows, width] */
};

static i64 bytes_of_rows_bf16(i64 rows, i64 width) {
    return TILE * WIDE_TILE * sizeof(float) + 3 * rows * width * sizeof(bf16);
}

/* The calling thread's. */
static struct rows_space_bf16 rows_space_bf16(char *arena, i64 rows, i64 width) {
    char *at = arena + omp_get_thread_num() * bytes_of_rows_bf16(rows, width);
    struct rows_space_bf16 space = {.piece = arena_take(&at, TILE * WIDE_TILE * sizeof(float))};
    space.a = arena_take(&at, rows * width * sizeof(bf16));
    space.b = arena_take(&at, rows * width * sizeof(bf16));
    space.scratch = arena_take(&at, rows * width * sizeof(bf16));
    return space;
}

/* y [rows, N] = x [rows, K] w [K, N]. Returns 1 where there is no memory.
 * Reference: reference_product. */
int linear_bf16(const bf16 *x, const float *w, bf16 *y, i64 rows, i64 K, i64 N, int threads) {
    i64 of_weight = K * N * sizeof(bf16), high = rows_of_block_bf16(rows, threads);
    char *arena = aligned_alloc(64, of_weight + threads * bytes_of_rows_bf16(high, K));
    if (!arena) return 1;
    bf16 *packed = (bf16 *)arena;
#pragma omp parallel num_threads(threads)
    {
        struct rows_space_bf16 space = rows_space_bf16(arena + of_weight, high, K);
        begin_products_bf16();
        pack_weight(w, packed, K, N);
#pragma omp for
        for (i64 r = 0; r < rows; r += high) {
            i64 n = lesser(high, rows - r);
            const struct narrow_product p = {.a = padded_rows(x + r * K, space.a, n, K),
                                             .w = packed,
                                             .y = y + r * N,
                                             .lda = K,
                                             .n = n,
                                             .N = N,
                                             .K = K};
            multiply_narrow(&p, space.piece);
        }
        end_products_bf16();
    }
    free(arena);
    return 0;
}

/* What all threads of the backward pass share. */
struct linear_backward_bf16 {
    const bf16 *x, *d_y;
    bf16 *d_x;
    i64 rows, K, N;
    bf16 *w, *transposed, *panels; /* w packed; of GRADIENT_ROWS rows x transposed, d_y packed */
};

/* d_x of a block of rows, which begins at row `at` of `deep` whose operands of the weight's gradient
 * are laid out. */
static void linear_block_backward(const struct linear_backward_bf16 *l, i64 first, i64 n, i64 at,
                                  i64 deep, struct rows_space_bf16 space) {
    i64 K = l->K, N = l->N, padded = round_up_tile(n);
    const bf16 *x = padded_rows(l->x + first * K, space.a, n, K);
    const bf16 *d_y = padded_rows(l->d_y + first * N, space.b, n, N);
    const struct narrow_product p = {
        .a = d_y, .w = l->w, .y = l->d_x + first * K, .lda = N, .n = n, .N = K, .K = N};
    multiply_narrow(&p, space.piece);
    transpose_rows_bf16(x, l->transposed + at, padded, K, deep, space.scratch);
    pack_pairs(d_y, N, (uint32_t *)(l->panels + at * TILE), padded, N, TILE, TILE * deep / 2);
}

/* From d_y [rows, N]: d_x [rows, K] and d_w [K, N], which is added to where `add`. Returns 1 where
 * there is no memory. Reference: reference_product of the transposes. */
int linear_backward_bf16(const bf16 *x, const bf16 *d_y, const float *w, bf16 *d_x, float *d_w,
                         i64 rows, i64 K, i64 N, int add, int threads) {
    i64 wider = K > N ? K : N, size = sizeof(bf16);
    i64 shared = size * (K * N + GRADIENT_ROWS * (K + N));
    i64 high = rows_of_block_bf16(lesser(rows, GRADIENT_ROWS), threads);
    char *arena = aligned_alloc(64, shared + threads * bytes_of_rows_bf16(high, wider));
    if (!arena) return 1;
    struct linear_backward_bf16 l = {x, d_y, d_x, rows, K, N, .w = (bf16 *)arena};
    l.transposed = l.w + K * N, l.panels = l.transposed + GRADIENT_ROWS * K;
#pragma omp parallel num_threads(threads)
    {
        struct rows_space_bf16 space = rows_space_bf16(arena + shared, high, wider);
        begin_products_bf16();
        pack_weight_t(w, l.w, K, N, space.scratch);
        for (i64 first = 0; first < rows; first += GRADIENT_ROWS) {
            i64 some = lesser(GRADIENT_ROWS, rows - first), deep = round_up_tile(some);
#pragma omp for
            for (i64 r = 0; r < some; r += high)
                linear_block_backward(&l, first + r, lesser(high, some - r), r, deep, space);
#pragma omp for
            for (i64 j = 0; j < N; j += TILE)
                gemm_bf16(l.transposed, deep, l.panels + j * deep, TILE * deep, d_w + j, N, K, TILE,
                          deep, add || first > 0);
        }
        end_products_bf16();
    }
    free(arena);
    return 0;
}
