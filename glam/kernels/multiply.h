/* Products of matrices that are in the cache, c [n, N] = a [n, K] b [K, N], with sums in float32:
 * of float32 by AVX-512, of bfloat16 by AMX or AVX512_BF16, where the processor has them. N and K
 * are multiples of STEP, but K of 8 in float32; n is one of 8 there, of 16 in bfloat16. `b` comes as panels of STEP columns, one
 * whole panel after another, so that none of its rows meet in one set of the first cache; in
 * bfloat16 a panel is made of pairs of rows. Rows of a and c are `lda` and `ldc` apart, panels of b
 * `panel`, which is STEP * K where all of its rows are used. With `add` the product comes on top of
 * what `c` holds. */
#include <immintrin.h>

#define STEP 32
#define DEPTH 256 /* rows of a panel in float32, of which the first cache has room */
#define ASIDE 16  /* floats between rows of a product, so that they don't meet in one set either */

/* The next part of a buffer, on a cache line. */
static void *carve(char **at, i64 bytes) {
    char *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

static i64 filled_to(i64 n, i64 step) { return (n + step - 1) / step * step; }

static i64 filled(i64 n) { return filled_to(n, STEP); }

static i64 whole_vectors(i64 n) { return filled_to(n, 16); }

/* Swaps, in all pairs of rows `by` apart, what lies `by` columns off the diagonal. */
static inline void swap_across(__m512i row[16], const int by) {
    int left[16], right[16];
    for (int j = 0; j < 16; j++) {
        left[j] = j & by ? 16 + j - by : j;
        right[j] = j & by ? 16 + j : j + by;
    }
    __m512i of_left = _mm512_loadu_si512(left), of_right = _mm512_loadu_si512(right);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        if (i & by) continue;
        __m512i upper = row[i], lower = row[i + by];
        row[i] = _mm512_permutex2var_epi32(upper, of_left, lower);
        row[i + by] = _mm512_permutex2var_epi32(upper, of_right, lower);
    }
}

/* [rows, columns] of 32 bits, both multiples of 16, the other way round: rows of the result are
 * `apart`, and its panels `panel`. */
static inline void transpose_to(const uint32_t *in, uint32_t *out, i64 rows, i64 columns, i64 apart,
                                i64 panel) {
    for (i64 r = 0; r < rows; r += 16)
        for (i64 c = 0; c < columns; c += 16) {
            uint32_t *to = out + r / STEP * panel + r % STEP + c * apart;
            __m512i row[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) row[i] = _mm512_loadu_si512(in + (r + i) * columns + c);
            swap_across(row, 1);
            swap_across(row, 2);
            swap_across(row, 4);
            swap_across(row, 8);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * apart, row[i]);
        }
}

static void transpose(const uint32_t *in, uint32_t *out, i64 rows, i64 columns) {
    transpose_to(in, out, rows, columns, rows, STEP);
}

static void panels_f32(const float *b, float *out, i64 K, i64 N) {
    for (i64 k = 0; k < K; k++)
        for (i64 j = 0; j < N; j += STEP)
            memcpy(out + j * K + k * STEP, b + k * N + j, STEP * sizeof(float));
}

/* Panels of the transpose of b [N, K]. */
static void panels_across_f32(const float *b, float *out, i64 N, i64 K) {
    transpose_to((const uint32_t *)b, (uint32_t *)out, N, K, STEP, STEP * K);
}

static void multiply_f32(const float *a, i64 lda, const float *b, i64 panel, float *c, i64 ldc,
                         i64 n, i64 N, i64 K, int add) {
    for (i64 j = 0; j < N; j += STEP, b += panel)
        for (i64 first = 0; first < K; first += DEPTH) {
            i64 last = first + DEPTH < K ? first + DEPTH : K;
            int more = add || first;
            for (i64 i = 0; i < n; i += 8) {
                __m512 sum[8][2];
                for (int r = 0; r < 8; r++) {
                    float *at = c + (i + r) * ldc + j;
                    sum[r][0] = more ? _mm512_loadu_ps(at) : _mm512_setzero_ps();
                    sum[r][1] = more ? _mm512_loadu_ps(at + 16) : _mm512_setzero_ps();
                }
                for (i64 k = first; k < last; k++) {
                    __m512 left = _mm512_loadu_ps(b + k * STEP);
                    __m512 right = _mm512_loadu_ps(b + k * STEP + 16);
#pragma GCC unroll 8
                    for (int r = 0; r < 8; r++) {
                        __m512 each = _mm512_set1_ps(a[(i + r) * lda + k]);
                        sum[r][0] = _mm512_fmadd_ps(each, left, sum[r][0]);
                        sum[r][1] = _mm512_fmadd_ps(each, right, sum[r][1]);
                    }
                }
                for (int r = 0; r < 8; r++) {
                    _mm512_storeu_ps(c + (i + r) * ldc + j, sum[r][0]);
                    _mm512_storeu_ps(c + (i + r) * ldc + j + 16, sum[r][1]);
                }
            }
        }
}

/* x [K, n] the other way round, for `multiply_turned`; both have room for as many rows as a
 * multiple of 16, and `scratch` for the same. */
static void turn_f32(const float *x, float *out, i64 K, i64 n, float *scratch) {
    (void)scratch;
    transpose((const uint32_t *)x, (uint32_t *)out, whole_vectors(K), n);
}

/* block [n, STEP] = the product of what was turned and a panel. */
static void multiply_turned_f32(const float *turned, const float *panel, float *block, i64 n,
                                i64 K) {
    multiply_f32(turned, whole_vectors(K), panel, STEP * K, block, STEP, n, STEP, K, 0);
}

static void narrow_row_f32(const float *in, float *out, i64 n) {
    memcpy(out, in, n * sizeof(float));
}

#ifdef __AVX512BF16__
/* n is a multiple of STEP. */
static inline void narrow_row_bf16(const float *in, bf16 *out, i64 n) {
    for (i64 j = 0; j < n; j += 32) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + j + 16), _mm512_loadu_ps(in + j));
        _mm512_storeu_si512(out + j, (__m512i)both);
    }
}

/* Pairs of rows of b, which are `ldb` apart, and `apart` in the result, where panels are `panel`. */
static inline void pairs_to(const bf16 *b, i64 ldb, uint32_t *out, i64 K, i64 N, i64 apart,
                            i64 panel) {
    for (i64 k = 0; k < K; k += 2)
        for (i64 p = 0; p < N; p += STEP) {
            const bf16 *even = b + k * ldb + p, *odd = even + ldb;
            uint32_t *to = out + p / STEP * panel + k / 2 * apart;
            __builtin_prefetch(even + 4 * ldb);
            __builtin_prefetch(odd + 4 * ldb);
#pragma omp simd
            for (i64 j = 0; j < STEP; j++) to[j] = even[j] | (uint32_t)odd[j] << 16;
        }
}

static void panels_bf16(const bf16 *b, bf16 *out, i64 K, i64 N) {
    pairs_to(b, N, (uint32_t *)out, K, N, STEP, STEP * K / 2);
}

/* Panels of the transpose of b [N, K]. */
static void panels_across_bf16(const bf16 *b, bf16 *out, i64 N, i64 K) {
    transpose_to((const uint32_t *)b, (uint32_t *)out, N, K / 2, STEP, STEP * K / 2);
}

static void turn_bf16(const bf16 *x, bf16 *out, i64 K, i64 n, bf16 *scratch) {
    pairs_to(x, n, (uint32_t *)scratch, K, n, n, STEP);
    transpose((const uint32_t *)scratch, (uint32_t *)out, K / 2, n);
}

static void multiply_avx512(const bf16 *a, i64 lda, const bf16 *b, i64 panel, float *c, i64 ldc,
                            i64 n, i64 N, i64 K, int add) {
    for (i64 j = 0; j < N; j += STEP, b += panel)
        for (i64 i = 0; i < n; i += 8) {
            __m512 sum[8][2];
            for (int r = 0; r < 8; r++) {
                float *at = c + (i + r) * ldc + j;
                sum[r][0] = add ? _mm512_loadu_ps(at) : _mm512_setzero_ps();
                sum[r][1] = add ? _mm512_loadu_ps(at + 16) : _mm512_setzero_ps();
            }
            for (i64 k = 0; k < K; k += 2) {
                __m512bh left = (__m512bh)_mm512_loadu_si512(b + k * STEP);
                __m512bh right = (__m512bh)_mm512_loadu_si512(b + (k + 1) * STEP);
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

/* Linux lends the tiles to a process that asks for them. */
static int tiles_are_lent(void) {
    static int lent = -1;
    if (lent < 0) lent = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0;
    return lent;
}

struct tiles {
    uint8_t palette, start, unused[14];
    uint16_t bytes_of_row[16];
    uint8_t rows[16];
};

/* For the thread that calls, until `end_products`. */
static void begin_products(void) {
    struct tiles all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.bytes_of_row[i] = 64, all.rows[i] = 16;
    if (tiles_are_lent()) _tile_loadconfig(&all);
}

static void end_products(void) {
    if (tiles_are_lent()) _tile_release();
}

/* Of 32 rows, or of 16 where not `both` halves are there, and STEP columns. */
static inline void multiply_tiles(const bf16 *a, i64 lda, const bf16 *b, float *c, i64 ldc, i64 K,
                                  int add, const int both) {
    float *lower = c + 16 * ldc;
    if (add) {
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
        _tile_loadd(6, b + k * STEP, STEP * 4);
        _tile_loadd(7, b + k * STEP + 32, STEP * 4);
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

static void multiply_bf16(const bf16 *a, i64 lda, const bf16 *b, i64 panel, float *c, i64 ldc,
                          i64 n, i64 N, i64 K, int add) {
    if (!tiles_are_lent()) {
        multiply_avx512(a, lda, b, panel, c, ldc, n, N, K, add);
        return;
    }
    for (i64 j = 0; j < N; j += STEP, b += panel) {
        i64 i = 0;
        for (; i + 32 <= n; i += 32)
            multiply_tiles(a + i * lda, lda, b, c + i * ldc + j, ldc, K, add, 1);
        if (i < n) multiply_tiles(a + i * lda, lda, b, c + i * ldc + j, ldc, K, add, 0);
    }
}
#else
#define multiply_bf16 multiply_avx512
#endif

static void multiply_turned_bf16(const bf16 *turned, const bf16 *panel, float *block, i64 n,
                                 i64 K) {
    multiply_bf16(turned, K, panel, STEP * K, block, STEP, n, STEP, K, 0);
}
#endif

#ifndef __AMX_BF16__
static void begin_products(void) {}
static void end_products(void) {}
#endif
