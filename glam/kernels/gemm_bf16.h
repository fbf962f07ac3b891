/* Matrix products of bfloat16 operands that fit the cache, c [n, N] = a [n, K] b [K, N], with sums
 * in float32, by AMX or AVX512_BF16.
 *
 * `b` is packed into panels of TILE columns (as in BLIS), one whole panel after another, so that
 * the rows of a panel do not compete for one set of the L1 cache. A panel holds pairs of rows,
 * [K / 2, TILE, 2], as the instructions want them. Rows of a and c are `lda` and `ldc` elements
 * apart, panels of b `panel` elements: TILE * K where all of their rows are used. With `accumulate`
 * the product is added to what `c` holds. N and K are multiples of TILE, n of 16. */
/* out [columns, rows] = the transpose of in [rows, columns], 32-bit elements, both multiples of
 * 16. */
static void transpose_u32(const uint32_t *in, uint32_t *out, i64 rows, i64 columns) {
    transpose_into(in, out, rows, columns, rows, TILE);
}

/* out [n] = in [n] in bfloat16; n is a multiple of TILE. */
static inline void narrow_row_bf16(const float *in, bf16 *out, i64 n) {
    for (i64 j = 0; j < n; j += 32) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + j + 16), _mm512_loadu_ps(in + j));
        _mm512_storeu_si512(out + j, (__m512i)both);
    }
}

/* Packs b [K, N], rows `ldb` apart, into panels of pairs of rows: pairs are `ld` apart, panels
 * `panel`, both counted in pairs. */
static inline void pack_pairs(const bf16 *b, i64 ldb, uint32_t *out, i64 K, i64 N, i64 ld,
                              i64 panel) {
    for (i64 k = 0; k < K; k += 2)
        for (i64 p = 0; p < N; p += TILE) {
            const bf16 *even = b + k * ldb + p, *odd = even + ldb;
            uint32_t *to = out + p / TILE * panel + k / 2 * ld;
            __builtin_prefetch(even + 4 * ldb);
            __builtin_prefetch(odd + 4 * ldb);
#pragma omp simd
            for (i64 j = 0; j < TILE; j++) to[j] = even[j] | (uint32_t)odd[j] << 16;
        }
}

/* Packs b [K, N], rows `ldb` apart, into panels of pairs [N / TILE, K / 2, TILE, 2]. */
static void pack_bf16(const bf16 *b, i64 ldb, bf16 *out, i64 K, i64 N) {
    pack_pairs(b, ldb, (uint32_t *)out, K, N, TILE, TILE * K / 2);
}

/* Packs the transpose of b [N, K] into panels of pairs [N / TILE, K / 2, TILE, 2]. */
static void pack_t_bf16(const bf16 *b, i64 ldb, bf16 *out, i64 N, i64 K) {
    (void)ldb; /* always K */
    transpose_into((const uint32_t *)b, (uint32_t *)out, N, K / 2, TILE, TILE * K / 2);
}

/* out [n, K] = the transpose of x [K, n], a left operand; `scratch` has
 * room for K * n. */
static void transpose_bf16(const bf16 *x, bf16 *out, i64 K, i64 n, bf16 *scratch) {
    pack_pairs(x, n, (uint32_t *)scratch, K, n, n, TILE);
    transpose_u32((const uint32_t *)scratch, (uint32_t *)out, K / 2, n);
}

/* The bfloat16 product by AVX512_BF16, in blocks of 8 rows and one panel. */
static void gemm_avx512(const bf16 *a, i64 lda, const bf16 *b, i64 panel, float *c, i64 ldc, i64 n,
                        i64 N, i64 K, int accumulate) {
    for (i64 j = 0; j < N; j += TILE, b += panel)
        for (i64 i = 0; i < n; i += 8) {
            __m512 sum[8][2];
            for (int r = 0; r < 8; r++) {
                float *at = c + (i + r) * ldc + j;
                sum[r][0] = accumulate ? _mm512_loadu_ps(at) : _mm512_setzero_ps();
                sum[r][1] = accumulate ? _mm512_loadu_ps(at + 16) : _mm512_setzero_ps();
            }
            for (i64 k = 0; k < K; k += 2) {
                __m512bh left = (__m512bh)_mm512_loadu_si512(b + k * TILE);
                __m512bh right = (__m512bh)_mm512_loadu_si512(b + (k + 1) * TILE);
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    int pair;
                    memcpy(&pair, a + (i + r) * lda + k, 4);
                    __m512bh each = (__m512bh)_mm512_set1_epi32(pair);
                    sum[r][0] = _mm512_dpbf16_ps(sum[r][0], each, left);
                    sum[r][1] = _mm512_dpbf16_ps(sum[r][1], each, right);
                }
            }
            for (int r = 0; r < 8; r++) {
                _mm512_storeu_ps(c + (i + r) * ldc + j, sum[r][0]);
                _mm512_storeu_ps(c + (i + r) * ldc + j + 16, sum[r][1]);
            }
        }
}

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>

/* Whether Linux grants the process AMX tiles, which it has to be asked for before their first use.
 */
static int amx_granted(void) {
    static int granted = -1; /* threads may ask at once: all find the same */
    int known = __atomic_load_n(&granted, __ATOMIC_RELAXED);
    if (known >= 0) return known;
    known = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0;
    __atomic_store_n(&granted, known, __ATOMIC_RELAXED);
    return known;
}

/* The configuration of the AMX tiles, palette 1. */
struct amx_config {
    uint8_t palette, start, unused[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
};

/* Configures eight AMX tiles of 16 rows of 64 bytes for the calling thread, until `amx_end`. */
static void amx_begin(void) {
    struct amx_config all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.bytes_per_row[i] = 64, all.rows[i] = 16;
    if (amx_granted()) _tile_loadconfig(&all);
}

/* Releases the AMX amx_config of the calling thread. */
static void amx_end(void) {
    if (amx_granted()) _tile_release();
}

/* One AMX block: c [32 or 16, TILE] = a [.., K] times one panel; 32 rows where `both` halves are
 * there, else 16. */
static inline void gemm_amx(const bf16 *a, i64 lda, const bf16 *b, float *c, i64 ldc, i64 K,
                            int accumulate, const int both) {
    float *lower = c + 16 * ldc;
    if (accumulate) {
        _tile_loadd(0, c, ldc * 4);
        _tile_loadd(1, c + 16, ldc * 4);
        if (both) _tile_loadd(2, lower, ldc * 4);
        if (both) _tile_loadd(3, lower + 16, ldc * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (i64 k = 0; k < K; k += 32) {
        _tile_loadd(4, a + k, lda * 2);
        if (both) _tile_loadd(5, a + 16 * lda + k, lda * 2);
        _tile_loadd(6, b + k * TILE, TILE * 4);
        _tile_loadd(7, b + k * TILE + 32, TILE * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) _tile_dpbf16ps(2, 5, 6);
        if (both) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, ldc * 4);
    _tile_stored(1, c + 16, ldc * 4);
    if (both) _tile_stored(2, lower, ldc * 4);
    if (both) _tile_stored(3, lower + 16, ldc * 4);
}

/* The bfloat16 product by AMX, or by AVX512_BF16 where the system grants no amx_config. */
static void gemm_bf16(const bf16 *a, i64 lda, const bf16 *b, i64 panel, float *c, i64 ldc, i64 n,
                      i64 N, i64 K, int accumulate) {
    if (!amx_granted()) {
        gemm_avx512(a, lda, b, panel, c, ldc, n, N, K, accumulate);
        return;
    }
    for (i64 j = 0; j < N; j += TILE, b += panel) {
        i64 i = 0;
        for (; i + 32 <= n; i += 32)
            gemm_amx(a + i * lda, lda, b, c + i * ldc + j, ldc, K, accumulate, 1);
        if (i < n) gemm_amx(a + i * lda, lda, b, c + i * ldc + j, ldc, K, accumulate, 0);
    }
}
#else
#define gemm_bf16 gemm_avx512
#endif

/* total [n, N] += the transpose of a [K, n], times b [K, N]; K is TILE. `scratch` has room for 2 *
 * K * n + K * N. */
static void add_transposed_bf16(const bf16 *a, const bf16 *b, i64 ldb, float *total, i64 ld, i64 n,
                                i64 K, i64 N, bf16 *scratch) {
    bf16 *transposed = scratch + K * n, *panels = transposed + K * n;
    transpose_bf16(a, transposed, K, n, scratch);
    pack_bf16(b, ldb, panels, K, N);
    gemm_bf16(transposed, K, panels, TILE * K, total, ld, n, N, K, 1);
}

enum { PANEL_bf16 = TILE };

#ifdef __AMX_BF16__
static void begin_products_bf16(void) { amx_begin(); }
static void end_products_bf16(void) { amx_end(); }
#else
static void begin_products_bf16(void) {}
static void end_products_bf16(void) {}
#endif
