/* Matrix products in float32 of any sizes, on the micro-kernel: packing, products with what is done
 * to their pieces, and gradients of weights. */

/* Packs b [K, N], whose rows are `ldb` apart, into panels [K, PANEL]; zeros beyond N. The rows are
 * those of `rows` [K] unless it is NULL. */
static void pack_rows(const float *b, i64 ldb, const i64 *rows, float *out, i64 K, i64 N) {
    for (i64 j = 0; j < N; j += PANEL)
        for (i64 k = 0; k < K; k++, out += PANEL) {
            const float *from = b + (rows ? rows[k] : k) * ldb + j;
            if (j + PANEL <= N) memcpy(out, from, PANEL * sizeof(float));
            else
                for (i64 i = 0; i < PANEL; i++) out[i] = j + i < N ? from[i] : 0.0f;
        }
}

static void pack_f32(const float *b, i64 ldb, float *out, i64 K, i64 N) {
    pack_rows(b, ldb, NULL, out, K, N);
}

/* out [4, 4], rows `ld_out` apart, = the transpose of in [4, 4], rows `ld_in` apart. */
INLINE void transpose_4(const float *in, i64 ld_in, float *out, i64 ld_out) {
    four a = *(const loose_four *)in, b = *(const loose_four *)(in + ld_in);
    four c = *(const loose_four *)(in + 2 * ld_in), d = *(const loose_four *)(in + 3 * ld_in);
    four ac = __builtin_shufflevector(a, c, 0, 4, 1, 5),
         bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
    four ca = __builtin_shufflevector(a, c, 2, 6, 3, 7),
         db = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    *(loose_four *)out = __builtin_shufflevector(ac, bd, 0, 4, 1, 5);
    *(loose_four *)(out + ld_out) = __builtin_shufflevector(ac, bd, 2, 6, 3, 7);
    *(loose_four *)(out + 2 * ld_out) = __builtin_shufflevector(ca, db, 0, 4, 1, 5);
    *(loose_four *)(out + 3 * ld_out) = __builtin_shufflevector(ca, db, 2, 6, 3, 7);
}

/* Packs the transpose of b [N, K], whose rows are `ldb` apart, into panels [K, PANEL]; zeros beyond
 * N. */
static void pack_t_f32(const float *b, i64 ldb, float *out, i64 N, i64 K) {
    for (i64 j = 0; j < N; j += PANEL, out += PANEL * K) {
        i64 done = 0;
#if WIDTH == 16
        for (; j + PANEL <= N && done + 16 <= K; done += 16)
            for (i64 i = 0; i < PANEL; i += 16)
                transpose_16((const uint32_t *)(b + (j + i) * ldb + done), ldb,
                             (uint32_t *)(out + done * PANEL + i), PANEL);
#endif
        for (i64 i = 0; i < PANEL; i += 4) {
            i64 k = done;
            if (j + i + 4 <= N)
                for (; k + 4 <= K; k += 4)
                    transpose_4(b + (j + i) * ldb + k, ldb, out + k * PANEL + i, PANEL);
            for (; k < K; k++)
                for (i64 r = i; r < i + 4; r++)
                    out[k * PANEL + r] = j + r < N ? b[(j + r) * ldb + k] : 0.0f;
        }
    }
}

/* c [n, N] = a [n, K] times packed panels, which are `panel` floats apart, on top of c where
 * `add`, for operands that fit the cache. N is a multiple of PANEL. */
static void gemm_f32(const float *a, i64 lda, const float *b, i64 panel, float *c, i64 ldc, i64 n,
                     i64 N, i64 K, int add) {
    for (i64 j = 0; j < N; j += PANEL, b += panel)
        for (i64 k = 0; k < K; k += K_BLOCK)
            by_rows(a + k, lda, b + k * PANEL, c + j, ldc, n, lesser(K_BLOCK, K - k), add || k,
                    NULL);
}

/* What a thread needs for products of any size. */
struct product_space {
    float panel[K_BLOCK * PANEL], ragged[MOST_ROWS * PANEL], tiles[A_IN_CACHE];
};

/* The spaces of all threads, which the caller frees; NULL where there is no memory. */
static struct product_space *alloc_spaces(int threads) {
    return aligned_alloc(64, threads * sizeof(struct product_space));
}

/* Is told when rows [top, top + rows) of columns [j, j + columns) of a product are done, while they
 * are in the cache. */
typedef void finish_piece(void *with, i64 top, i64 rows, i64 j, i64 columns);

/* c [n, N] = a [n, K] b [K, N], on top of c where `add`; b is stored as [N, K] where `transposed`.
 * Rows are lda, ldb and ldc elements apart. Where a_panel or c_panel is not 0, a or c lies in
 * panels [rows, PANEL] of its columns, so many elements apart, the last padded. */
struct product {
    const float *a, *b;
    float *c;
    i64 lda, ldb, ldc, n, N, K, a_panel, c_panel;
    int transposed, add;
    finish_piece *finish;
    void *with;
};

/* to [rows, columns] = from, rows `ld_to` and `ld_from` apart. */
static void copy_columns(const float *from, i64 ld_from, float *to, i64 ld_to, i64 rows,
                         i64 columns) {
    for (i64 r = 0; r < rows; r++)
        for (i64 j = 0; j < columns; j++) to[r * ld_to + j] = from[r * ld_from + j];
}

/* Columns [j, j + PANEL) of c += rows [top, top + rows) of a [.., k to k + deep) times the packed
 * panel of `space`. */
static void meet_panel(const struct product *p, struct product_space *space, i64 top, i64 rows,
                       i64 j, i64 k, i64 deep, struct ahead *next) {
    i64 columns = lesser(PANEL, p->N - j), add = p->add || k, in_panels = p->a_panel > 0;
    i64 apart = in_panels ? p->a_panel : p->lda, row = in_panels ? PANEL : p->lda;
    const float *a = p->a + top * row + (in_panels ? k / PANEL * p->a_panel : k);
    void (*meet)(const float *, i64, const float *, float *, i64, i64, i64, int, struct ahead *) =
        in_panels ? by_panels : by_rows;
    float *c = p->c_panel ? p->c + j / PANEL * p->c_panel + top * PANEL : p->c + top * p->ldc + j;
    if (p->c_panel || columns == PANEL) {
        meet(a, apart, space->panel, c, p->c_panel ? PANEL : p->ldc, rows, deep, add, next);
        return;
    }
    for (i64 i = 0; i < rows; i += MOST_ROWS) {
        i64 some = lesser(MOST_ROWS, rows - i);
        float *to = c + i * p->ldc;
        if (add) copy_columns(to, p->ldc, space->ragged, PANEL, some, columns);
        meet(a + i * row, apart, space->panel, space->ragged, PANEL, some, deep, add, NULL);
        copy_columns(space->ragged, PANEL, to, p->ldc, some, columns);
    }
}

/* Where [deep, columns] of b begins, its k-th row and j-th column, as it is stored. */
static struct ahead piece_of_b(const struct product *p, i64 k, i64 j) {
    i64 deep = lesser(K_BLOCK, p->K - k) * 4, columns = lesser(PANEL, p->N - j) * 4;
    const float *at = p->transposed ? p->b + j * p->ldb + k : p->b + k * p->ldb + j;
    return (struct ahead){.at = (const char *)at,
                          .rows = (p->transposed ? columns : deep) / 4,
                          .bytes = p->transposed ? deep : columns,
                          .apart = p->ldb * 4};
}

/* Panels of rows [top, top + rows) and terms [k, last), one after another: `a` is in the L2 cache,
 * and a panel of c comes there once. */
static void multiply_block(const struct product *p, i64 top, i64 rows, i64 from, i64 last,
                           struct product_space *space) {
    int far = p->N * p->K > B_NEAR;
    for (i64 j = 0; j < p->N; j += PANEL) {
        i64 columns = lesser(PANEL, p->N - j);
        for (i64 k = from; k < last; k += K_BLOCK) {
            const float *b = (const float *)piece_of_b(p, k, j).at;
            i64 deep = lesser(K_BLOCK, p->K - k), end = k + K_BLOCK >= last;
            struct ahead next = piece_of_b(p, end ? from : k + K_BLOCK, end ? j + PANEL : j);
            if (p->transposed) pack_t_f32(b, p->ldb, space->panel, columns, deep);
            else pack_f32(b, p->ldb, space->panel, deep, columns);
            meet_panel(p, space, top, rows, j, k, deep, far && next.rows > 0 ? &next : NULL);
        }
        if (p->finish && last == p->K) p->finish(p->with, top, rows, j, columns);
    }
}

static void multiply(const struct product *p, struct product_space *space) {
    i64 deep = lesser(K_AT_ONCE, p->K > 0 ? p->K : 1), high = A_IN_CACHE / deep / 60 * 60;
    for (i64 top = 0; top < p->n; top += high)
        for (i64 k = 0; k < p->K; k += K_AT_ONCE)
            multiply_block(p, top, lesser(high, p->n - top), k, lesser(k + K_AT_ONCE, p->K), space);
}

/* c [n, N] = the transpose of a [K, n], times b [K, N], on top of c where `add`: the gradient of a
 * weight, whose terms are added in the order of k. */
struct gradient {
    const float *a, *b;
    float *c;
    i64 lda, ldb, ldc, n, N, K;
    int add;
};

#define TILES_OF(R)                                                                                \
    case R:                                                                                        \
        for (i64 k = 0; k < K; k++) {                                                              \
            const float *from = a + (rows ? rows[k] : k) * lda;                                    \
            float *to = out + k * R;                                                               \
            i64 i = 0;                                                                             \
            for (; i + R <= n; i += R, to += R * K) memcpy(to, from + i, R * sizeof(float));       \
            if (i < n) memcpy(to - k * R + k * (n - i), from + i, (n - i) * sizeof(float));        \
        }                                                                                          \
        break;
/* Packs a [K, n] into tiles [K, height]; the last may be narrower. */
static void pack_tiles(const float *a, i64 lda, const i64 *rows, float *out, i64 n, i64 K) {
    switch (tile_height(n)) {
        TILES_OF(1)
        TILES_OF(2) TILES_OF(3) TILES_OF(4) TILES_OF(5) TILES_OF(6)
#if MICRO_ROWS > 6
            TILES_OF(7) TILES_OF(8) TILES_OF(9) TILES_OF(10) TILES_OF(11) TILES_OF(12)
#endif
    }
}
#undef TILES_OF

/* The given rows of c, which are at most MOST_ROWS, in the given columns. */
static void gradient_rows(const struct gradient *g, i64 top, i64 rows, i64 from, i64 to,
                          struct product_space *space) {
    i64 deep = A_IN_CACHE / rows / K_BLOCK * K_BLOCK;
    for (i64 first = 0; first < g->K; first += deep) {
        i64 last = lesser(first + deep, g->K);
        for (i64 k = first; k < last; k += K_BLOCK)
            pack_tiles(g->a + k * g->lda + top, g->lda, NULL, space->tiles + (k - first) * rows,
                       rows, lesser(K_BLOCK, last - k));
        for (i64 j = from; j < to; j += PANEL) {
            i64 columns = lesser(PANEL, to - j);
            float *c = g->c + top * g->ldc + j;
            for (i64 k = first; k < last; k += K_BLOCK) {
                i64 some = lesser(K_BLOCK, last - k);
                const float *tiles = space->tiles + (k - first) * rows;
                pack_f32(g->b + k * g->ldb + j, g->ldb, space->panel, some, columns);
                int add = g->add || k, whole = columns == PANEL;
                float *to = whole ? c : space->ragged;
                if (!whole && add) copy_columns(c, g->ldc, to, PANEL, rows, columns);
                by_tiles(tiles, space->panel, to, whole ? g->ldc : PANEL, rows, some, add);
                if (!whole) copy_columns(to, PANEL, c, g->ldc, rows, columns);
            }
        }
    }
}

/* The share of the longer axis of c that falls to `part` of `parts`. */
static void multiply_gradient(const struct gradient *g, i64 part, i64 parts,
                              struct product_space *space) {
    i64 unit = g->n > g->N ? MICRO_ROWS : PANEL, whole = g->n > g->N ? g->n : g->N;
    i64 units = (whole + unit - 1) / unit;
    i64 from = units * part / parts * unit, to = lesser(units * (part + 1) / parts * unit, whole);
    i64 rows_from = g->n > g->N ? from : 0, rows_to = g->n > g->N ? to : g->n;
    for (i64 top = rows_from; top < rows_to; top += MOST_ROWS)
        gradient_rows(g, top, lesser(MOST_ROWS, rows_to - top), g->n > g->N ? 0 : from,
                      g->n > g->N ? g->N : to, space);
}

/* total [n, N rounded up to PANEL], rows `ld` apart, += the transpose of a [K, n], times b [K, N],
 * for operands that fit the cache. `scratch` has room for b, packed. */
static void add_transposed_f32(const float *a, const float *b, i64 ldb, float *total, i64 ld, i64 n,
                               i64 K, i64 N, float *scratch) {
    pack_f32(b, ldb, scratch, K, N);
    for (i64 j = 0; j < N; j += PANEL) by_columns(a, n, scratch + j * K, total + j, ld, n, K, 1);
}

enum { PANEL_f32 = PANEL };
static void begin_products_f32(void) {}
static void end_products_f32(void) {}
