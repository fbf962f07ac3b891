/* Vectors of LANES floats for decoding, and what is widened to them. */

#define LANES 16 /* floats that are worked on together: positions of keys, columns of values */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef lanes loose_lanes __attribute__((aligned(4), may_alias)); /* anywhere in memory */
typedef uint32_t wide_lanes __attribute__((vector_size(LANES * 4)));
typedef wide_lanes loose_wide_lanes __attribute__((aligned(2), may_alias));

static inline float widen_i8(int8_t x) { return (float)x; }

static inline void store(float *y, lanes x) { *(loose_lanes *)y = x; }

/* LANES weights in float32. Some compilers widen a vector in halves, hence the intrinsics. */
static inline lanes load_lanes_f32(const float *w) { return *(const loose_lanes *)w; }
#ifdef __AVX512F__
#include <immintrin.h>
static inline lanes load_lanes_bf16(const bf16 *w) {
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((void *)w)), 16);
}
static inline lanes load_lanes_i8(const int8_t *w) {
    return (lanes)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((void *)w)));
}
#else
typedef uint16_t bf16_lanes __attribute__((vector_size(LANES * 2), aligned(2)));
typedef int8_t i8_lanes __attribute__((vector_size(LANES), aligned(1)));
static inline lanes load_lanes_bf16(const bf16 *w) {
    return (lanes)(__builtin_convertvector(*(const bf16_lanes *)w, wide_lanes) << 16);
}
static inline lanes load_lanes_i8(const int8_t *w) {
    return __builtin_convertvector(*(const i8_lanes *)w, lanes);
}
#endif

/* Two rows of a matrix with `width` columns: one after the other in float32; in bfloat16 column by
 * column, so that a word of 32 bits holds both elements of a column, and widening it takes a shift
 * and a mask. `place` is where an element lies, `load_pair` has LANES columns of both rows,
 * `store_pair` rounds a column. */
static inline i64 place_f32(i64 odd, i64 column, i64 width) { return odd * width + column; }
static inline i64 place_bf16(i64 odd, i64 column, i64 width) {
    (void)width;
    return 2 * column + odd;
}
static inline void load_pair_f32(const float *pair, i64 column, i64 width, lanes *even,
                                 lanes *odd) {
    *even = load_lanes_f32(pair + column);
    *odd = load_lanes_f32(pair + width + column);
}
static inline void load_pair_bf16(const bf16 *pair, i64 column, i64 width, lanes *even,
                                  lanes *odd) {
    (void)width;
    wide_lanes both = *(const loose_wide_lanes *)(pair + 2 * column);
    *even = (lanes)(both << 16);
    *odd = (lanes)(both & 0xffff0000u);
}
static inline void store_pair_f32(float *pair, i64 column, i64 width, float even, float odd) {
    pair[column] = even;
    pair[width + column] = odd;
}
static inline void store_pair_bf16(bf16 *pair, i64 column, i64 width, float even, float odd) {
    (void)width;
    uint32_t both = narrow_bf16(even) | (uint32_t)narrow_bf16(odd) << 16;
    memcpy(pair + 2 * column, &both, 4);
}
