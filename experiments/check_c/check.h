/* What a check needs: random arrays of exactly the size that a kernel may touch, the same numbers in
 * float64 for the reference, and a comparison. */
#define _GNU_SOURCE
#include <stdio.h>

#define PAD 32
#define CHUNKS 32
#define TILE 32
#define LANES 16
#define OUTSIDE 2

#include "reference.h"
#include "reference_steps.h"
#include "reference_decode.h"

typedef uint16_t bf16;

#include "prototypes.h" /* of every kernel, by check_c/__main__.py; weak: not all sets have all */

static uint64_t state;    /* of the random numbers */
static const char *name;  /* of the kernel that is checked */
static int failures;      /* of this kernel */
static char shapes[512];  /* of this round, for a failure */
static void *taken[4096]; /* of this round */
static int num_taken;

static uint64_t bits(void) {
    state += 0x9E3779B97F4A7C15ull;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static i64 below(i64 n) { return (i64)(bits() % (uint64_t)n); }
static int one_in(i64 n) { return below(n) == 0; }
static double uniform(void) { return (double)(bits() >> 11) / 9007199254740992.0; }
static double normal(void) {
    return sqrt(-2.0 * log(1.0 - uniform())) * cos(2.0 * M_PI * uniform());
}

/* 1 to `most`, the sizes at which loops end more often than others. */
static i64 size(i64 most) {
    static const i64 edges[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129};
    i64 edge = edges[below(sizeof edges / sizeof *edges)];
    return edge <= most && !one_in(3) ? edge : 1 + below(most);
}

/* Elements of an array that is worked on whole: now and then so many that threads share it. */
static i64 elements(void) { return one_in(6) ? 32769 + below(40000) : size(300); }

static int threads(void) { return 1 + (int)below(3); }

/* Memory that ends where the array does, so that the sanitizer sees the next byte; it begins at an
 * element's alignment and no more, as a part of a tensor may. */
static void *take(i64 count, i64 of) {
    i64 before = one_in(2) ? 0 : of * below(64 / of);
    char *all = malloc(before + count * of);
    memset(all, 0xff, before + count * of); /* NaN, -1: what is read unwritten shows */
    if (num_taken == sizeof taken / sizeof *taken) abort();
    taken[num_taken++] = all;
    return all + before;
}

static void release(void) {
    while (num_taken) free(taken[--num_taken]);
}

static double *wide(i64 count) { return take(count, sizeof(double)); }
static float *floats(i64 count) { return take(count, sizeof(float)); }
static i64 *numbers(i64 count) { return take(count, sizeof(i64)); }

static float widen_f32(float x) { return x; }
static float narrow_f32(float x) { return x; }
static float widen_bf16(bf16 x) {
    uint32_t u = (uint32_t)x << 16;
    float y;
    return memcpy(&y, &u, 4), y;
}
static bf16 narrow_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* A description of this round's shapes. */
#define SHAPES(...) snprintf(shapes, sizeof shapes, __VA_ARGS__)

static void fail(const char *what, i64 at, double got, double want) {
    if (failures++ < 3)
        printf("%s: %s[%lld] is %g, the reference %g (%s)\n", name, what, (long long)at, got, want,
               shapes);
}

/* Whether the numbers are the same up to `tolerance` of the largest, or of `least` where that is
 * more; NaN is as nothing. */
#define CLOSE_OF(what, got, want, count, tolerance, least, WIDEN)                                 \
    do {                                                                                          \
        double largest = (least);                                                                 \
        for (i64 i = 0; i < (count); i++) largest = fmax(largest, fabs((want)[i]));               \
        for (i64 i = 0; i < (count); i++)                                                         \
            if (!(fabs(WIDEN((got)[i]) - (want)[i]) <= (tolerance) * largest)) {                  \
                fail(what, i, WIDEN((got)[i]), (want)[i]);                                        \
                break;                                                                            \
            }                                                                                     \
    } while (0)

/* What is drawn is about 1: where all that comes out is far less, terms have cancelled. */
#define CLOSE(what, got, want, count, tolerance, WIDEN)                                           \
    CLOSE_OF(what, got, want, count, tolerance, 1.0, WIDEN)

static void same(const char *what, const i64 *got, const i64 *want, i64 count) {
    for (i64 i = 0; i < count; i++)
        if (got[i] != want[i]) {
            fail(what, i, (double)got[i], (double)want[i]);
            return;
        }
}

static void close_to(const char *what, const float *got, const double *want, i64 count) {
    CLOSE(what, got, want, count, 3e-5, widen_f32);
}

static void returned(int got, int want) {
    if (got != want) fail("what it returned", 0, got, want);
}

/* A bias [heads, PAD + window + PAD] as of `attention_weights`: zeros in front, -infinity behind. */
static float *random_bias(double **same_wide, i64 heads, i64 window) {
    i64 padded = window + 2 * PAD;
    float *bias = floats(heads * padded);
    *same_wide = wide(heads * padded);
    for (i64 i = 0; i < heads * padded; i++) {
        i64 at = i % padded;
        bias[i] = at < PAD ? 0.0f : at < PAD + window ? (float)normal() : -INFINITY;
        (*same_wide)[i] = bias[i];
    }
    return bias;
}

#ifdef __AVX512F__
#define STRIP 64
#else
#define STRIP 32
#endif

/* Where a packed weight [n, m] has an element (packed.inc): strips of columns, in a strip pairs of
 * rows, in a pair the rows one after the other or, `by_column`, their elements side by side. */
static i64 packed_place(i64 i, i64 j, i64 n, i64 m, int by_column) {
    i64 even_n = (n + 1) / 2 * 2, whole = m / STRIP * STRIP;
    i64 width = j < whole ? STRIP : LANES;
    i64 first = j < whole ? j / STRIP * STRIP : whole + (j - whole) / LANES * LANES;
    i64 pair = first * even_n + i / 2 * 2 * width, column = j - first;
    return pair + (by_column ? 2 * column + i % 2 : i % 2 * width + column);
}
