/* What the products of float32 weights in bfloat16 share: weights packed for gemm_bf16.h, products a
 * tile of columns at a time, and GELU of a tile.
 *
 * Functions that say so are run by every thread of a parallel region: their `omp for` shares the
 * loop among them and ends with a barrier. */

#define ROW_TILE      128 /* most rows that go through all products together */
#define GRADIENT_ROWS 512 /* whose part of a weight's gradient is one product */
#define WIDE_TILE     64  /* columns of a piece: rows of y are written by two cache lines */

/* block [n, TILE] = a [n, K] times columns j to j + TILE of a packed matrix. */
static void gemm_tile_bf16(const bf16 *a, i64 lda, const bf16 *packed, float *block, i64 n, i64 j,
                           i64 K) {
    gemm_bf16(a, lda, packed + j * K, TILE * K, block, TILE, n, TILE, K, 0);
}

/* Operands of y [n, N] = a [n, K] times a packed matrix, plus other times w_other unless NULL: rows of
 * both lie `lda` apart, and those up to a multiple of 16 may be read. */
struct narrow_product {
    const bf16 *a, *w, *other, *w_other;
    bf16 *y;
    i64 lda, n, N, K;
};

/* Rows [i, i + TILE) and columns [j, j + WIDE_TILE) of y, as far as there are. */
static void narrow_piece(const struct narrow_product *p, i64 i, i64 j, float *piece) {
    i64 n = lesser(TILE, p->n - i), N = lesser(WIDE_TILE, p->N - j), at = i * p->lda, K = p->K;
    i64 rows = round_up(n, 16);
    gemm_bf16(p->a + at, p->lda, p->w + j * K, TILE * K, piece, WIDE_TILE, rows, N, K, 0);
    if (p->other)
        gemm_bf16(p->other + at, p->lda, p->w_other + j * K, TILE * K, piece, WIDE_TILE, rows, N, K,
                  1);
    for (i64 r = 0; r < n; r++)
        narrow_row_bf16(piece + r * WIDE_TILE, p->y + (i + r) * p->N + j, N);
}

/* The whole product, piece by piece, each narrowed while it is in the L1 cache. */
static void multiply_narrow(const struct narrow_product *p, float *piece) {
    for (i64 i = 0; i < p->n; i += TILE)
        for (i64 j = 0; j < p->N; j += WIDE_TILE) narrow_piece(p, i, j, piece);
}

/* The rows of a block, as many for each of the threads; no result depends on it. */
static i64 rows_of_block_bf16(i64 rows, int threads) {
    return lesser(ROW_TILE, round_up_tile((rows + threads - 1) / threads));
}

/* out [n, TILE], rows `ld` apart, = block [n, TILE] in the element type. */
static void store_tile_bf16(const float *block, bf16 *out, i64 n, i64 ld) {
    for (i64 r = 0; r < n; r++) narrow_row_bf16(block + r * TILE, out + r * ld, TILE);
}

/* to [TILE] pairs = the elements of two rows side by side, in bfloat16. */
static inline void narrow_pairs(const float *even, const float *odd, uint32_t *to) {
    const __m512i side_by_side = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10,
                                                  25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                                  18, 2, 17, 1, 16, 0);
    for (i64 j = 0; j < TILE; j += 16) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(odd + j), _mm512_loadu_ps(even + j));
        _mm512_storeu_si512(to + j, _mm512_permutexvar_epi16(side_by_side, (__m512i)both));
    }
}

/* The pairs of rows k and k + 1 of w [K, N] in panels of pairs [N / TILE, K / 2, TILE, 2]. */
static void pack_two_rows(const float *w, bf16 *out, i64 k, i64 K, i64 N) {
    const float *even = w + k * N, *odd = even + N;
    for (i64 j = 0; j < N; j += TILE)
        narrow_pairs(even + j, odd + j, (uint32_t *)(out + j * K + k * TILE));
}

/* The panel from row j of w [N, K] on of its transpose in panels of pairs. `scratch` has room for
 * [TILE, K]. */
static void pack_panel_t(const float *w, bf16 *out, i64 j, i64 K, bf16 *scratch) {
    narrow_row_bf16(w + j * K, scratch, TILE * K);
    pack_t_bf16(scratch, K, out + j * K, TILE, K);
}

/* Packs w [K, N] into panels of pairs. Every thread runs it. */
static void pack_weight(const float *w, bf16 *out, i64 K, i64 N) {
#pragma omp for
    for (i64 k = 0; k < K; k += 2) pack_two_rows(w, out, k, K, N);
}

/* Packs the transpose of w [N, K] into panels of pairs; `scratch` is the thread's own. Every thread
 * runs it. */
static void pack_weight_t(const float *w, bf16 *out, i64 N, i64 K, bf16 *scratch) {
#pragma omp for
    for (i64 j = 0; j < N; j += TILE) pack_panel_t(w, out, j, K, scratch);
}

/* The rows of a [n, width] up to the next multiple of TILE: where they lie, or copied and padded
 * with zeros. */
static const bf16 *padded_rows(const bf16 *a, bf16 *copy, i64 n, i64 width) {
    if (n % TILE == 0) return a;
    memcpy(copy, a, n * width * sizeof(bf16));
    memset(copy + n * width, 0, (round_up_tile(n) - n) * width * sizeof(bf16));
    return copy;
}

/* The same for the rows [first, first + n) of a [.., width] or, unless `tokens` is NULL, the rows
 * that it names. */
static const bf16 *rows_of_bf16(const bf16 *a, const i64 *tokens, i64 first, i64 n, i64 width,
                                bf16 *copy) {
    if (!tokens) return padded_rows(a + first * width, copy, n, width);
    for (i64 r = 0; r < n; r++)
        memcpy(copy + r * width, a + tokens[first + r] * width, width * sizeof(bf16));
    memset(copy + n * width, 0, (round_up_tile(n) - n) * width * sizeof(bf16));
    return copy;
}

/* out [width, n], rows `ld` apart, = the transpose of a [n, width]; both are multiples of TILE.
 * `scratch` has room for n * width. */
static void transpose_rows_bf16(const bf16 *a, bf16 *out, i64 n, i64 width, i64 ld, bf16 *scratch) {
    pack_pairs(a, width, (uint32_t *)scratch, n, width, width, TILE);
    transpose_into((const uint32_t *)scratch, (uint32_t *)out, n / 2, width, ld / 2, TILE);
}

/* y [TILE] = GELU(x [TILE]). */
static void gelu_tile_bf16(const bf16 *x, bf16 *y) {
    float out[TILE];
#pragma omp simd
    for (i64 j = 0; j < TILE; j++) out[j] = gelu(widen_bf16(x[j]));
    narrow_row_bf16(out, y, TILE);
}

/* y [TILE] = GELU(gate [TILE]) * x [TILE]. */
static void geglu_tile_bf16(const bf16 *gate, const bf16 *x, bf16 *y) {
    float out[TILE];
#pragma omp simd
    for (i64 j = 0; j < TILE; j++) out[j] = gelu(widen_bf16(gate[j])) * widen_bf16(x[j]);
    narrow_row_bf16(out, y, TILE);
}

/* `gated_gelu_backward` of TILE elements: from the gradient of the ungated GELU, `d` = the
 * gradient of the pre-activation and `gated` = gate * GELU. Returns this part of the gate's
 * gradient. */
static float gelu_tile_backward_bf16(const float *d_hidden, const bf16 *pre_activation, float gate,
                                     bf16 *d, bf16 *gated) {
    float dx[TILE], out[TILE], total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < TILE; j++) {
        float slope, y = gelu_and_slope(widen_bf16(pre_activation[j]), &slope), dy = d_hidden[j];
        total += y * dy;
        out[j] = gate * y;
        dx[j] = gate * dy * slope;
    }
    narrow_row_bf16(out, gated, TILE);
    narrow_row_bf16(dx, d, TILE);
    return total;
}

/* `geglu_backward` of TILE elements, and hidden = GELU(gate) * x. */
static void geglu_tile_backward_bf16(const float *d_hidden, const bf16 *gate, const bf16 *x,
                                     bf16 *d_gate, bf16 *d_x, bf16 *hidden) {
    float of_gate[TILE], of_x[TILE], out[TILE];
#pragma omp simd
    for (i64 j = 0; j < TILE; j++) {
        float slope, y = gelu_and_slope(widen_bf16(gate[j]), &slope), d = d_hidden[j];
        out[j] = y * widen_bf16(x[j]);
        of_gate[j] = d * widen_bf16(x[j]) * slope;
        of_x[j] = d * y;
    }
    narrow_row_bf16(out, hidden, TILE);
    narrow_row_bf16(of_gate, d_gate, TILE);
    narrow_row_bf16(of_x, d_x, TILE);
}
