/* Products of bfloat16 matrices with sums in float32, where the processor has instructions for
 * them: AMX, or AVX512_BF16. c [n, N] = a [n, K] b [K, N]; n, N and K are multiples of STEP, `b`
 * comes in pairs of rows, [K / 2, N, 2]. Matrices are taken to be in the cache. */
#include <immintrin.h>

#define STEP 32

/* The next part of a buffer, on a cache line. */
static void *carve(char **at, i64 bytes) {
    char *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

static void narrow_row(const float *restrict in, bf16 *restrict out, i64 n) {
#pragma omp simd
    for (i64 j = 0; j < n; j++) out[j] = narrow_bf16(in[j]);
}

/* The pairs of two rows side by side. */
static void pair_rows(const bf16 *even, const bf16 *odd, uint32_t *out, i64 n) {
#pragma omp simd
    for (i64 j = 0; j < n; j++) out[j] = even[j] | (uint32_t)odd[j] << 16;
}

static void pairs_of(const bf16 *b, uint32_t *out, i64 K, i64 N) {
    for (i64 k = 0; k < K; k += 2) pair_rows(b + k * N, b + (k + 1) * N, out + k / 2 * N, N);
}

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

/* [rows, columns] of 32 bits to [columns, rows]; both are multiples of 16. */
static void transpose(const uint32_t *in, uint32_t *out, i64 rows, i64 columns) {
    for (i64 r = 0; r < rows; r += 16)
        for (i64 c = 0; c < columns; c += 16) {
            __m512i row[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) row[i] = _mm512_loadu_si512(in + (r + i) * columns + c);
            swap_across(row, 1);
            swap_across(row, 2);
            swap_across(row, 4);
            swap_across(row, 8);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + (c + i) * rows + r, row[i]);
        }
}

/* Rows of the three are `lda`, `ldb` and `ldc` apart. With `add` the product comes on top of what `c`
 * holds. */
static void multiply_avx512(const bf16 *a, i64 lda, const uint32_t *b, i64 ldb, float *c, i64 ldc,
                            i64 n, i64 N, i64 K, int add) {
    for (i64 j = 0; j < N; j += 32)
        for (i64 i = 0; i < n; i += 8) {
            __m512 sum[8][2];
            for (int r = 0; r < 8; r++) {
                float *at = c + (i + r) * ldc + j;
                sum[r][0] = add ? _mm512_loadu_ps(at) : _mm512_setzero_ps();
                sum[r][1] = add ? _mm512_loadu_ps(at + 16) : _mm512_setzero_ps();
            }
            for (i64 k = 0; k < K / 2; k++) {
                __m512bh left = (__m512bh)_mm512_loadu_si512(b + k * ldb + j);
                __m512bh right = (__m512bh)_mm512_loadu_si512(b + k * ldb + j + 16);
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    int pair;
                    memcpy(&pair, a + (i + r) * lda + 2 * k, 4);
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

static void multiply(const bf16 *a, i64 lda, const uint32_t *b, i64 ldb, float *c, i64 ldc, i64 n,
                     i64 N, i64 K, int add) {
    if (!tiles_are_lent()) {
        multiply_avx512(a, lda, b, ldb, c, ldc, n, N, K, add);
        return;
    }
    for (i64 j = 0; j < N; j += 32) /* columns of b, which stay in the first cache */
        for (i64 i = 0; i < n; i += 32) {
            float *upper = c + i * ldc + j, *lower = upper + 16 * ldc;
            if (add) {
                _tile_loadd(0, upper, ldc * 4);
                _tile_loadd(1, upper + 16, ldc * 4);
                _tile_loadd(2, lower, ldc * 4);
                _tile_loadd(3, lower + 16, ldc * 4);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (i64 k = 0; k < K; k += 32) {
                _tile_loadd(4, a + i * lda + k, lda * 2);
                _tile_loadd(5, a + (i + 16) * lda + k, lda * 2);
                _tile_loadd(6, b + k / 2 * ldb + j, ldb * 4);
                _tile_loadd(7, b + k / 2 * ldb + j + 16, ldb * 4);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, upper, ldc * 4);
            _tile_stored(1, upper + 16, ldc * 4);
            _tile_stored(2, lower, ldc * 4);
            _tile_stored(3, lower + 16, ldc * 4);
        }
}
#else
static void begin_products(void) {}
static void end_products(void) {}
#define multiply multiply_avx512
#endif

/* Of matrices without gaps. */
static void multiply_whole(const bf16 *a, const uint32_t *b, float *c, i64 n, i64 N, i64 K) {
    multiply(a, K, b, N, c, N, n, N, K, 0);
}
