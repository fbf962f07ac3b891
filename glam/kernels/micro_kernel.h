/* The micro-kernel of matrix products in float32, by vector extensions of the compiler: one source
 * for AVX-512, AVX2, NEON and SSE. Laid out as in BLIS (Van Zee and van de Geijn 2015): columns of
 * b are packed into panels, MICRO_ROWS rows of a meet a panel, and their sums stay in registers.
 *
 *   a: as it lies, row by row or as the transpose       b, packed: one panel after another
 *      K                                                   PANEL columns
 *   +-----------+ MICRO_ROWS: one element of each,      +------+------+
 *   |           | broadcast, times one row of a panel   | row 0| row 0|   K_BLOCK rows of a panel
 *   |           |                                       | row 1| row 1|   stay in the L1 cache
 *   +-----------+                                       |  ... |  ... |
 *
 * Any n, N and K. The sum of an element is made in one order, which depends on K alone: neither on
 * which other rows there are nor on how rows and columns are shared among threads. */
#if defined(__AVX512F__)
#define WIDTH      16 /* floats of a vector */
#define MICRO_ROWS 12 /* 12 x 2 sums of 32 registers */
#define KERNEL_SET "avx512"
#elif defined(__AVX2__) && defined(__FMA__)
#define WIDTH      8
#define MICRO_ROWS 6 /* 6 x 2 sums of 16 registers */
#define KERNEL_SET "avx2"
#elif defined(__ARM_NEON)
#define WIDTH      4
#define MICRO_ROWS 6 /* 6 x 4 sums of 32 registers */
#define PANEL      16
#define KERNEL_SET "neon"
#elif defined(__SSE2__)
#define WIDTH      4
#define MICRO_ROWS 6
#define KERNEL_SET "sse"
#else
#define WIDTH      4
#define MICRO_ROWS 6
#define KERNEL_SET "vectors of 4"
#endif
#ifndef PANEL
#define PANEL (2 * WIDTH) /* columns of a panel */
#endif
#define VECTORS (PANEL / WIDTH)
#if WIDTH == 16
#define K_BLOCK    128    /* rows of a panel: half of an L1 cache that two threads may share */
#define K_AT_ONCE  256    /* terms that are added before the next columns */
#define A_IN_CACHE 131072 /* floats of `a` that stay in the L2 cache: half of one of 1 MB */
#else
#define K_BLOCK    256
#define K_AT_ONCE  256
#define A_IN_CACHE 65536 /* half of one of 512 KB */
#endif
#define B_NEAR    65536 /* floats of `b` that are in the L2 cache anyway */
#define MOST_ROWS 240   /* of a block that is not stored as it is made; a multiple of 12 */

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__ /* which does not know GCC's pragma */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* The instruction set that float32 is multiplied by. */
const char *kernel_set(void) { return KERNEL_SET; }

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef float loose_vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16)));
typedef float loose_four __attribute__((vector_size(16), aligned(4), may_alias));

/* How the rows of `a` lie: one by one, `apart` elements; as the transpose [K, apart]; packed as
 * tiles [K, rows of the tile]; or in pieces [.., PANEL] of its columns, `apart` elements. */
enum lies { BY_ROWS, TRANSPOSED, IN_TILES, IN_PANELS };

/* Element r of column k, counted from the beginning of its piece where a is IN_PANELS. */
#define ELEMENT(lies, r, k, R, apart)                                                              \
    ((lies) == BY_ROWS      ? (r) * (apart) + (k)                                                  \
     : (lies) == TRANSPOSED ? (k) * (apart) + (r)                                                  \
     : (lies) == IN_TILES   ? (k) * (R) + (r)                                                      \
                            : (r) * PANEL + (k))

/* The micro-kernel: c [R, PANEL] = a [R, K] times a panel [K, PANEL], on top of c where `add`. R
 * and `lies` are constants where it is inlined. */
INLINE void micro_kernel(const float *a, i64 apart, const float *b, float *c, i64 ldc, i64 K,
                         int add, const int R, const enum lies lies) {
    vec sum[MICRO_ROWS][VECTORS];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int j = 0; j < VECTORS; j++)
            sum[r][j] = add ? (vec) * (const loose_vec *)(c + r * ldc + j * WIDTH) : (vec){0};
    }
    for (i64 first = 0, deep; first < K; first += deep, a += apart) {
        deep = lies == IN_PANELS && K - first > PANEL ? PANEL : K - first;
        for (i64 k = 0; k < deep; k++, b += PANEL) {
            vec row[VECTORS];
            UNROLL
            for (int j = 0; j < VECTORS; j++) row[j] = *(const loose_vec *)(b + j * WIDTH);
            UNROLL
            for (int r = 0; r < R; r++) {
                float each = a[ELEMENT(lies, r, k, R, apart)];
                UNROLL
                for (int j = 0; j < VECTORS; j++) sum[r][j] += each * row[j];
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int j = 0; j < VECTORS; j++) *(loose_vec *)(c + r * ldc + j * WIDTH) = sum[r][j];
    }
}

#define TILE_OF(R)                                                                                 \
    case R:                                                                                        \
        micro_kernel(a, apart, b, c, ldc, K, add, R, lies);                                        \
        break;
INLINE void tile(const float *a, i64 apart, const float *b, float *c, i64 ldc, i64 K, int add,
                 i64 rows, const enum lies lies) {
    switch (rows) {
        TILE_OF(1) TILE_OF(2) TILE_OF(3) TILE_OF(4) TILE_OF(5) TILE_OF(6)
#if MICRO_ROWS > 6
        TILE_OF(7) TILE_OF(8) TILE_OF(9) TILE_OF(10) TILE_OF(11) TILE_OF(12)
#endif
    }
}
#undef TILE_OF

/* Rows of a tile where n are shared out among as few tiles as hold them; the last may have
 * fewer. */
static inline i64 tile_height(i64 n) {
    i64 tiles = (n + MICRO_ROWS - 1) / MICRO_ROWS;
    return tiles ? (n + tiles - 1) / tiles : 0;
}

static inline i64 lesser(i64 a, i64 b) { return a < b ? a : b; }

/* What comes next, to be fetched into the L2 cache while a panel is met: [rows, bytes], `apart`
 * bytes. Its rows lie too far from each other for the processor to guess. */
struct ahead {
    const char *at;
    i64 rows, bytes, apart, row, byte;
};

/* Fetches `lines` more of it. */
INLINE void fetch_ahead(struct ahead *next, i64 lines) {
    for (; lines > 0 && next->row < next->rows; lines--) {
        __builtin_prefetch(next->at + next->row * next->apart + next->byte, 0, 2);
        next->byte += 64;
        if (next->byte >= next->bytes) next->byte = 0, next->row++;
    }
}

/* c [n, PANEL] = a [n, K] times one panel; `next` may be NULL. */
INLINE void rows_times_panel(const float *a, i64 apart, const float *b, float *c, i64 ldc, i64 n,
                             i64 K, int add, struct ahead *next, const enum lies lies) {
    i64 height = tile_height(n);
    i64 lines = next ? next->rows * ((next->bytes + 63) / 64) * height / (n ? n : 1) + 1 : 0;
    for (i64 i = 0; i < n; i += height) {
        if (next) fetch_ahead(next, lines);
        i64 at = i * (lies == BY_ROWS      ? apart
                      : lies == TRANSPOSED ? 1
                      : lies == IN_TILES   ? K
                                           : PANEL);
        tile(a + at, apart, b, c + i * ldc, ldc, K, add, lesser(height, n - i), lies);
    }
}

static __attribute__((noinline)) void by_rows(const float *a, i64 lda, const float *b, float *c,
                                              i64 ldc, i64 n, i64 K, int add, struct ahead *next) {
    rows_times_panel(a, lda, b, c, ldc, n, K, add, next, BY_ROWS);
}

static __attribute__((noinline)) void by_columns(const float *a, i64 lda, const float *b, float *c,
                                                 i64 ldc, i64 n, i64 K, int add) {
    rows_times_panel(a, lda, b, c, ldc, n, K, add, NULL, TRANSPOSED);
}

static __attribute__((noinline)) void by_tiles(const float *a, const float *b, float *c, i64 ldc,
                                               i64 n, i64 K, int add) {
    rows_times_panel(a, 0, b, c, ldc, n, K, add, NULL, IN_TILES);
}

static __attribute__((noinline)) void by_panels(const float *a, i64 panel, const float *b, float *c,
                                                i64 ldc, i64 n, i64 K, int add,
                                                struct ahead *next) {
    rows_times_panel(a, panel, b, c, ldc, n, K, add, next, IN_PANELS);
}
