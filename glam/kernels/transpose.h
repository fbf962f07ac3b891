/* Transposes of 32-bit elements by AVX-512. */
#ifdef __AVX512F__
#include <immintrin.h>

/* One step of a 16 x 16 transpose: in every pair of rows `by` apart, swaps the blocks of `by`
 * columns off the diagonal. */
static inline void swap_lanes(__m512i row[16], const int by) {
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

/* out [16, 16] = the transpose of in [16, 16], 32-bit elements, rows ld_in and ld_out apart. */
static inline void transpose_16(const uint32_t *in, i64 ld_in, uint32_t *out, i64 ld_out) {
    __m512i row[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) row[i] = _mm512_loadu_si512(in + i * ld_in);
    swap_lanes(row, 1);
    swap_lanes(row, 2);
    swap_lanes(row, 4);
    swap_lanes(row, 8);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + i * ld_out, row[i]);
}

/* Transposes in [rows, columns] of 32-bit elements, both multiples of 16, into panels of TILE
 * columns: rows of a panel are `ld` apart, panels `panel`. */
static inline void transpose_into(const uint32_t *in, uint32_t *out, i64 rows, i64 columns, i64 ld,
                                  i64 panel) {
    for (i64 r = 0; r < rows; r += 16)
        for (i64 c = 0; c < columns; c += 16)
            transpose_16(in + r * columns + c, columns, out + r / TILE * panel + r % TILE + c * ld,
                         ld);
}
#endif
