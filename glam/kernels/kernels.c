/* What lies between the matrix products of a training step, each in one pass over memory: on a CPU
 * a chain of small operators costs more in traffic and calls than in arithmetic. Products are
 * torch's, but for those of attention and of experts where the processor has what multiply.h asks
 * for: these run whole. Every function is in terms of pointers to contiguous arrays; arithmetic is
 * in float32.
 *
 * Sums are split in ways that do not depend on the number of threads, so neither do results.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef uint16_t bf16;

#define PARALLEL_FROM 32768 /* elements: less is not worth waking a thread */
#define SHARE 4096          /* elements of a thread's turn: only the last turn may end in less than
                             * a whole vector, which the compiler may round in another order */
#define CHUNKS 32           /* of a sum over rows */
#define PAD 32              /* elements: a whole number of vectors */

static inline uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float widen_f32(float x) { return x; }
static inline float narrow_f32(float x) { return x; }
static inline float widen_bf16(bf16 x) { return of_bits((uint32_t)x << 16); }

/* To the nearest, ties to even, as torch. A NaN that arithmetic makes has no low bits to carry. */
static inline bf16 narrow_bf16(float x) {
    uint32_t u = bits_of(x);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* b where one is NaN. */
static inline float larger(float a, float b) { return a > b ? a : b; }

/* a * b + c; spelled out where the compiler may not regroup, as it may elsewhere. */
static inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* 2^n * 2^f of a whole n and |f| <= 1/2 (minimax: relative error below 1e-7). */
static inline float exp2_of_sum(float n, float f) {
    float p = 1.326472382e-3f;
    p = p * f + 9.671512991e-3f;
    p = p * f + 5.550733581e-2f;
    p = p * f + 2.402224243e-1f;
    p = p * f + 6.931470037e-1f;
    p = p * f + 1.0f;
    return of_bits(bits_of(p) + ((uint32_t)(int32_t)n << 23));
}

/* exp of x <= 0, and 1e-38 below -87.3, where float32 ends. */
static inline float exp_or_tiny(float x) {
    float bounded = larger(-87.3f, x);
    float n = rintf(bounded * 1.44269504f);
    return exp2_of_sum(n, fused(bounded, 1.44269504f, -n));
}

/* The same, and 0 there: what is masked counts for nothing. */
static inline float exp_(float x) {
    float y = exp_or_tiny(x);
    return x < -87.3f ? 0.0f : y;
}

/* 1 / x of a normal x > 0: a division takes longer than three steps of Newton. */
static inline float reciprocal(float x) {
    float y = of_bits(0x7ef311c7u - bits_of(x));
    y = y * fused(-x, y, 2.0f);
    y = y * fused(-x, y, 2.0f);
    return y * fused(-x, y, 2.0f);
}

static inline float tanh_(float x) {
    float e = exp_or_tiny(-2.0f * fabsf(x));
    return copysignf((1.0f - e) * reciprocal(1.0f + e), x);
}

/* |x|, as far as the normal distribution has a tail in float32. */
static inline float within_tail(float x) { return fabsf(x) < 5.66f ? fabsf(x) : 5.66f; }

/* The standard normal distribution beyond |x|: exp(-x^2 / 2) times a smooth function, a polynomial
 * here (minimax, within 7e-8 of the whole). */
static inline float normal_tail(float x, float *exponential) {
    float y = larger(-126.0f, x * x * -0.72134752f), n = rintf(y);
    float z = within_tail(x), p = 1.631667033e-6f;
    p = p * z - 3.520740211e-5f;
    p = p * z + 3.397358232e-4f;
    p = p * z - 1.974617830e-3f;
    p = p * z + 7.939370349e-3f;
    p = p * z - 2.431390435e-2f;
    p = p * z + 6.115486845e-2f;
    p = p * z - 1.325137913e-1f;
    p = p * z + 2.499167919e-1f;
    p = p * z - 3.989365101e-1f;
    p = p * z + 4.999999404e-1f;
    *exponential = exp2_of_sum(n, y - n);
    return p * *exponential;
}

/* GELU, the erf form. */
static inline float gelu(float x) {
    float e;
    return larger(0.0f, x) - within_tail(x) * normal_tail(x, &e);
}

static inline float gelu_and_slope(float x, float *slope) {
    float e, tail = normal_tail(x, &e);
    *slope = (x < 0.0f ? tail : 1.0f - tail) + x * e * 0.39894228f;
    return larger(0.0f, x) - within_tail(x) * tail;
}

/* Keys that a query meets, up to a whole vector; those before `far` are beyond the window of the
 * bias, but for less than a vector. */
static inline i64 reach(i64 query, i64 window, i64 *far) {
    i64 beyond = query + 1 - window;
    *far = beyond > 0 ? beyond / PAD * PAD : 0;
    return (query + PAD) / PAD * PAD;
}

/* exp of each, less the largest; returns 1 / their sum. */
static inline float exponentials(float *x, i64 n) {
    float most = -INFINITY, total = 0.0f;
#pragma omp simd reduction(max : most)
    for (i64 j = 0; j < n; j++) most = larger(x[j], most);
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < n; j++) total += x[j] = exp_(x[j] - most);
    return 1.0f / total;
}

#define WIDEN OF(widen)
#define NARROW OF(narrow)
#define T float
#define OF(name) name##_f32
#include "typed.h"
#undef T
#undef OF

#define T bf16
#define OF(name) name##_bf16
#include "typed.h"
#undef T
#undef OF

/* total += product, in the wider type. */
void add_narrow(float *restrict total, const bf16 *restrict product, i64 n, int threads) {
#pragma omp parallel for simd schedule(simd : static, SHARE) num_threads(threads) \
    if (parallel : n > PARALLEL_FROM)
    for (i64 i = 0; i < n; i++) total[i] += widen_bf16(product[i]);
}

/* Choices sorted by expert, in the order of their tokens: `next` is each expert's first row, and is
 * left at its last. Rows that no choice fills keep what `token_of_row` had. */
void place(const i64 *expert_of_choice, i64 *next, i64 *row_of_choice, i64 *token_of_row,
           i64 tokens, i64 top_k, int threads) {
    (void)threads; /* in their order */
    for (i64 i = 0; i < tokens * top_k; i++) {
        i64 row = next[expert_of_choice[i]]++;
        row_of_choice[i] = row;
        token_of_row[row] = i / top_k;
    }
}

/* The first of the highest; n where none is a number. */
static inline i64 highest(const float *x, i64 n) {
    float most = -INFINITY;
    i64 first = n;
    if (n < 16) { /* less than a vector */
        for (i64 j = 0; j < n; j++)
            if (x[j] > most || (x[j] == most && first == n)) most = x[first = j];
        return first;
    }
#pragma omp simd reduction(max : most)
    for (i64 j = 0; j < n; j++) most = larger(x[j], most);
#pragma omp simd reduction(min : first)
    for (i64 j = 0; j < n; j++) first = x[j] == most && j < first ? j : first;
    return first;
}

/* The first that is not among `k` choices. */
static i64 first_left(const i64 *chosen, i64 k) {
    i64 first = 0;
    for (i64 j = 0; j < k; j++)
        if (chosen[j] == first) first++, j = -1;
    return first;
}

/* The gate's softmax over experts, its `top_k` highest (the first of equals), and their gates: the
 * softmax of the chosen logits where `normalize`, else their probabilities. */
void route(const float *logits, i64 *experts, float *gates, float *probabilities, i64 tokens,
           i64 num_experts, i64 top_k, int normalize, int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : tokens * num_experts > PARALLEL_FROM)
    for (i64 t = 0; t < tokens; t++) {
        const float *row = logits + t * num_experts;
        float *p = probabilities + t * num_experts, *g = gates + t * top_k;
        i64 *chosen = experts + t * top_k;
        memcpy(p, row, num_experts * sizeof(float));
        for (i64 k = 0; k < top_k; k++) {
            i64 best = highest(p, num_experts);
            chosen[k] = best < num_experts ? best : first_left(chosen, k);
            p[chosen[k]] = NAN;
        }
        float most = row[chosen[0]], total = 0.0f, of_chosen = 0.0f;
#pragma omp simd reduction(+ : total)
        for (i64 e = 0; e < num_experts; e++) total += p[e] = exp_(row[e] - most);
        for (i64 k = 0; k < top_k; k++) of_chosen += p[chosen[k]];
        if (isnan(total)) of_chosen = total; /* a logit that is no number shows in the gates */
        for (i64 k = 0; k < top_k; k++) g[k] = p[chosen[k]] / (normalize ? of_chosen : total);
#pragma omp simd
        for (i64 e = 0; e < num_experts; e++) p[e] /= total;
    }
}

/* `d_probabilities` is written over. */
void route_backward(const float *d_gates, float *d_probabilities, const i64 *experts,
                    const float *gates, const float *probabilities, float *d_logits, i64 tokens,
                    i64 num_experts, i64 top_k, int normalize, int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : tokens * num_experts > PARALLEL_FROM)
    for (i64 t = 0; t < tokens; t++) {
        const float *p = probabilities + t * num_experts, *g = gates + t * top_k;
        const float *dg = d_gates + t * top_k;
        float *dp = d_probabilities + t * num_experts, *d = d_logits + t * num_experts;
        const i64 *chosen = experts + t * top_k;
        float mean = 0.0f, of_gates = 0.0f;
        if (!normalize)
            for (i64 k = 0; k < top_k; k++) dp[chosen[k]] += dg[k];
#pragma omp simd reduction(+ : mean)
        for (i64 e = 0; e < num_experts; e++) mean += dp[e] * p[e];
#pragma omp simd
        for (i64 e = 0; e < num_experts; e++) d[e] = p[e] * (dp[e] - mean);
        if (!normalize) continue;
        for (i64 k = 0; k < top_k; k++) of_gates += dg[k] * g[k];
        for (i64 k = 0; k < top_k; k++) d[chosen[k]] += g[k] * (dg[k] - of_gates);
    }
}

#include "adafactor.h"

#ifdef __AVX512F__
#include "multiply.h"

static i64 weights_before(i64 chunk) { return STEP * STEP * (chunk * (chunk + 1) / 2); }

#define AT_ONCE 128 /* rows of an expert on their way through both products */

static i64 most_rows(const i64 *first_row, i64 E) {
    i64 most = 0;
    for (i64 e = 0; e < E; e++)
        if (first_row[e + 1] - first_row[e] > most) most = first_row[e + 1] - first_row[e];
    return most;
}

#define T float
#define OF(name) name##_f32
#include "attention.h"
#include "experts.h"
#undef T
#undef OF

#ifdef __AVX512BF16__
#define T bf16
#define OF(name) name##_bf16
#include "attention.h"
#include "experts.h"
#undef T
#undef OF
#endif

/* Where products cost so little that one more is cheaper than what it spares the memory. */
#ifdef __AMX_BF16__
#include "loss.h"
#endif
#endif
