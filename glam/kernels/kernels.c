/* CPU kernels of a training step: the operations between its matrix products, each in one pass
 * over memory, and whole attention, feed-forwards, experts and output loss: in float32 on every
 * processor, in bfloat16 with AVX512_BF16 or AMX. A chain of small operators costs more in memory
 * traffic and calls than in arithmetic.
 *
 * Arguments are pointers to contiguous row-major arrays whose shapes stand in brackets. Arithmetic
 * is in float32 for both element types, float32 and bfloat16. The last argument is the number of
 * OpenMP threads. Functions that return int return 0, or what their comment says.
 *
 * Results do not depend on the number of threads: a sum is made in the order of its terms, or split
 * into a fixed number of parts, which are added in a fixed order.
 *
 *   elementwise.inc  activations, RMS norm, softmax of attention, cross-entropy, combine of choices
 *   adafactor.h      the optimizer step
 *   micro_kernel.h   the inner loop of products in float32, on vectors of any width
 *   multiply.h       products in float32 of any sizes, on micro_kernel.h
 *   linear.h         linear maps, on multiply.h
 *   feed_forward.h   feed-forwards and experts in float32, on multiply.h and hidden_units.h
 *   loss_f32.h       logits, cross-entropy and their gradients in float32, on multiply.h
 *   gemm_bf16.h      products in bfloat16 that stay in the cache (AVX512_BF16, AMX)
 *   attention.inc    attention, a head at a time, on multiply.h or gemm_bf16.h
 *   tiles_bf16.h     packed weights, narrowed products and GELU of tiles, on gemm_bf16.h
 *   linear_bf16.h    linear maps in bfloat16, on tiles_bf16.h
 *   feed_forward_bf16.h, experts_bf16.h   feed-forwards in bfloat16, and those of every expert
 *   loss_bf16.h      logits, cross-entropy and their gradients in bfloat16, with AMX
 *   decode.h         a decoding step of the whole model, by the products of product.inc and
 *                    packed.inc, attend.inc and draw.h */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef uint16_t bf16;

#include "compiled_for.h"

#define PARALLEL_FROM 32768 /* elements: smaller arrays are worked on by one thread */
#define GRAIN 4096          /* elements that a thread takes at a time: whole vectors, since the
                             * scalar tail of a loop may round differently and must therefore lie at
                             * the end of the array only (not schedule(simd : …), of which clang 14
                             * makes loops that visit an element many times) */
#define CHUNKS 32           /* fixed number of parts of a sum over rows */
#define PAD 32              /* elements of padding: whole vectors */

/* The bit pattern of a float. */
static inline uint32_t bits_of_float(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

/* The float of a bit pattern. */
static inline float float_of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* Element type to float32 and back; for float32 itself both are the identity. */
static inline float widen_f32(float x) { return x; }
static inline float narrow_f32(float x) { return x; }
static inline float widen_bf16(bf16 x) { return float_of_bits((uint32_t)x << 16); }

/* Rounds to nearest, ties to even, as torch does. NaNs made by arithmetic have no low bits, so the
 * carry cannot turn them into infinity. */
static inline bf16 narrow_bf16(float x) {
    uint32_t u = bits_of_float(x);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* The larger of two; b where either is NaN. */
static inline float fmax_(float a, float b) { return a > b ? a : b; }

/* a * b + c with one rounding, in places where the compiler must not regroup the sum. */
static inline float fma_(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* 2^n * 2^f for an integer n and |f| <= 1/2: a minimax polynomial, relative error below 1e-7. */
static inline float exp2_of_sum(float n, float f) {
    float p = 1.326472382e-3f;
    p = p * f + 9.671512991e-3f;
    p = p * f + 5.550733581e-2f;
    p = p * f + 2.402224243e-1f;
    p = p * f + 6.931470037e-1f;
    p = p * f + 1.0f;
    return float_of_bits(bits_of_float(p) + ((uint32_t)(int32_t)n << 23));
}

/* exp(x) for x <= 0; 1e-38 for x < -87.3, where normal float32 numbers end. */
static inline float exp_or_tiny(float x) {
    float bounded = fmax_(-87.3f, x);
    float n = rintf(bounded * 1.44269504f);
    return exp2_of_sum(n, fma_(bounded, 1.44269504f, -n));
}

/* exp(x) for x <= 0; exactly 0 for x < -60, below 1e-26, so that a masked key has weight 0, and so
 * that no softmax over a sum and times a scale is a subnormal number: a product of many of those
 * takes a hundred times as long. */
static inline float exp_(float x) {
    float y = exp_or_tiny(x);
    return x < -60.0f ? 0.0f : y;
}

/* 1 / x of a normal x > 0 by three Newton steps, which are faster than a division. */
static inline float reciprocal(float x) {
    float y = float_of_bits(0x7ef311c7u - bits_of_float(x));
    y = y * fma_(-x, y, 2.0f);
    y = y * fma_(-x, y, 2.0f);
    return y * fma_(-x, y, 2.0f);
}

/* tanh(x) = sign(x) * (1 - e) / (1 + e) with e = exp(-2 |x|). */
static inline float tanh_(float x) {
    float e = exp_or_tiny(-2.0f * fabsf(x));
    return copysignf((1.0f - e) * reciprocal(1.0f + e), x);
}

/* min(|x|, 5.66): beyond it the normal distribution has no tail in float32. */
static inline float within_tail(float x) { return fabsf(x) < 5.66f ? fabsf(x) : 5.66f; }

/* 1 - Phi(|x|), the tail of the standard normal distribution: exp(-x^2 / 2), which is stored to
 * `exponential`, times a minimax polynomial in |x| (error within 7e-8). */
static inline float normal_tail(float x, float *exponential) {
    float y = fmax_(-126.0f, x * x * -0.72134752f), n = rintf(y);
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

/* GELU in the erf form, x * Phi(x) = max(0, x) - |x| * tail(x). */
static inline float gelu(float x) {
    float e;
    return fmax_(0.0f, x) - within_tail(x) * normal_tail(x, &e);
}

/* GELU(x), and its derivative Phi(x) + x * phi(x) in `slope`. */
static inline float gelu_and_slope(float x, float *slope) {
    float e, tail = normal_tail(x, &e);
    *slope = (x < 0.0f ? tail : 1.0f - tail) + x * e * 0.39894228f;
    return fmax_(0.0f, x) - within_tail(x) * tail;
}

/* Range of keys of a query, rounded up to whole vectors. Returns the end of the causal range. The
 * position bias is zero at distance `window` and beyond: that part is [0, far), rounded down to
 * whole vectors, and needs no bias. */
static inline i64 key_range(i64 query, i64 window, i64 *far) {
    i64 beyond = query + 1 - window;
    *far = beyond > 0 ? beyond / PAD * PAD : 0;
    return (query + PAD) / PAD * PAD;
}

/* x [n] becomes exp(x - max(x)); returns 1 / sum, by which the caller scales. */
static inline float softmax_exp(float *x, i64 n) {
    float row_max = -INFINITY, total = 0.0f;
#pragma omp simd reduction(max : row_max)
    for (i64 j = 0; j < n; j++) row_max = fmax_(x[j], row_max);
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < n; j++) total += x[j] = exp_(x[j] - row_max);
    return 1.0f / total;
}

#define OUTSIDE 2 /* what a function returns that has met an index outside of what it indexes */

/* Whether a number of x [n] is not in [0, limit) or, with a `multiple` above 0, is less than the one
 * before it or no multiple. Returns 1 or 0. Reference: reference_outside. */
int outside(const i64 *x, i64 n, i64 limit, i64 multiple, int threads) {
    (void)threads; /* the work of microseconds */
    int found = 0;
#pragma omp simd reduction(| : found)
    for (i64 i = 0; i < n; i++) found |= (uint64_t)x[i] >= (uint64_t)limit;
    if (multiple <= 0) return found;
    for (i64 i = 0; i < n; i++) found |= x[i] % multiple != 0 || (i > 0 && x[i] < x[i - 1]);
    return found;
}

#define WIDEN OF(widen)
#define NARROW OF(narrow)
#define T float
#define OF(name) name##_f32
#include "elementwise.inc"
#undef T
#undef OF

#define T bf16
#define OF(name) name##_bf16
#include "elementwise.inc"
#undef T
#undef OF

/* total [n] += product [n], a float32 sum of bfloat16 terms. Reference: reference_add_narrow. */
void add_narrow(float *restrict total, const bf16 *restrict product, i64 n, int threads) {
#pragma omp parallel for simd schedule(static, GRAIN) \
    num_threads(threads) if (parallel : n > PARALLEL_FROM)
    for (i64 i = 0; i < n; i++) total[i] += widen_bf16(product[i]);
}

/* Sorts the choices of all tokens by expert, stably (token permutation).
 *
 * expert_of_choice [tokens, top_k]; `next` [E] comes as the first row of each expert and is left
 * at the end of its rows; row_of_choice [tokens * top_k]; token_of_row [rows], of which rows
 * without a choice are left as they were. Returns OUTSIDE for an expert that is none of E, or that
 * has no row left. Reference: reference_sort_by_expert. */
int sort_by_expert(const i64 *expert_of_choice, i64 *next, i64 *row_of_choice, i64 *token_of_row,
                   i64 tokens, i64 top_k, i64 E, i64 rows, int threads) {
    (void)threads; /* sequential: the order of the tokens decides the rows */
    if (outside(expert_of_choice, tokens * top_k, E, 0, 1)) return OUTSIDE;
    for (i64 i = 0; i < tokens * top_k; i++) {
        i64 row = next[expert_of_choice[i]]++;
        if ((uint64_t)row >= (uint64_t)rows) return OUTSIDE;
        row_of_choice[i] = row;
        token_of_row[row] = i / top_k;
    }
    return 0;
}

/* Index of the largest of x [n], the first of equals; n where all are NaN or -infinity-free ties
 * do not exist. */
static inline i64 argmax(const float *x, i64 n) {
    float row_max = -INFINITY;
    i64 first = n;
    if (n < 16) { /* shorter than a vector */
        for (i64 j = 0; j < n; j++)
            if (x[j] > row_max || (x[j] == row_max && first == n)) row_max = x[first = j];
        return first;
    }
#pragma omp simd reduction(max : row_max)
    for (i64 j = 0; j < n; j++) row_max = fmax_(x[j], row_max);
#pragma omp simd reduction(min : first)
    for (i64 j = 0; j < n; j++) first = x[j] == row_max && j < first ? j : first;
    return first;
}

/* The smallest index that is not among chosen [k]. */
static i64 first_unchosen(const i64 *chosen, i64 k) {
    i64 first = 0;
    for (i64 j = 0; j < k; j++)
        if (chosen[j] == first) first++, j = -1;
    return first;
}

/* Sorts chosen [k] by their x, the highest first, equals as they are. */
static void highest_first(i64 *chosen, const float *x, i64 k) {
    for (i64 i = 1; i < k; i++)
        for (i64 j = i; j > 0 && x[chosen[j]] > x[chosen[j - 1]]; j--) {
            i64 higher = chosen[j];
            chosen[j] = chosen[j - 1], chosen[j - 1] = higher;
        }
}

/* The router of an MoE layer (paper, section 4): the softmax of logits [tokens, num_experts] into
 * `probabilities` of the same shape, the `top_k` experts of the highest logits (the first of
 * equals) into experts [tokens, top_k], and their weights into gates [tokens, top_k]. The gates
 * are the softmax of the chosen logits where `normalize`, else the chosen probabilities. A bias
 * [num_experts], or NULL, is added to the logits for the choice alone: experts are those of the
 * highest sums, the one of the highest logit first. Reference: reference_route. */
void route(const float *logits, const float *bias, i64 *experts, float *gates,
           float *probabilities, i64 tokens, i64 num_experts, i64 top_k, int normalize,
           int threads) {
#pragma omp parallel for num_threads(threads) if (parallel : tokens * num_experts > PARALLEL_FROM)
    for (i64 t = 0; t < tokens; t++) {
        const float *row = logits + t * num_experts;
        float *p = probabilities + t * num_experts, *g = gates + t * top_k;
        i64 *chosen = experts + t * top_k;
        memcpy(p, row, num_experts * sizeof(float));
        if (bias)
            for (i64 e = 0; e < num_experts; e++) p[e] += bias[e];
        for (i64 k = 0; k < top_k; k++) {
            i64 best = argmax(p, num_experts);
            chosen[k] = best < num_experts ? best : first_unchosen(chosen, k);
            p[chosen[k]] = NAN;
        }
        if (bias) highest_first(chosen, row, top_k);
        /* With a bias the highest logit may belong to none that is chosen. */
        i64 highest = bias ? argmax(row, num_experts) : chosen[0];
        float row_max = row[highest < num_experts ? highest : 0], total = 0.0f, chosen_sum = 0.0f;
#pragma omp simd reduction(+ : total)
        for (i64 e = 0; e < num_experts; e++) total += p[e] = exp_(row[e] - row_max);
        for (i64 k = 0; k < top_k; k++) {
            /* By the first of the chosen, far below which the highest of all may let them vanish. */
            g[k] = bias && normalize ? exp_(row[chosen[k]] - row[chosen[0]]) : p[chosen[k]];
            chosen_sum += g[k];
        }
        if (isnan(total)) chosen_sum = total; /* a NaN among the logits has to show in the gates */
        for (i64 k = 0; k < top_k; k++) g[k] /= normalize ? chosen_sum : total;
#pragma omp simd
        for (i64 e = 0; e < num_experts; e++) p[e] /= total;
    }
}

/* Gradient of `route`: d_logits [tokens, num_experts] from d_gates [tokens, top_k] and
 * d_probabilities [tokens, num_experts]. `d_probabilities` is overwritten. Returns OUTSIDE for an
 * expert that is none of them. Reference: reference_route_backward. */
int route_backward(const float *d_gates, float *d_probabilities, const i64 *experts,
                   const float *gates, const float *probabilities, float *d_logits, i64 tokens,
                   i64 num_experts, i64 top_k, int normalize, int threads) {
    if (outside(experts, tokens * top_k, num_experts, 0, 1)) return OUTSIDE;
#pragma omp parallel for num_threads(threads) if (parallel : tokens * num_experts > PARALLEL_FROM)
    for (i64 t = 0; t < tokens; t++) {
        const float *p = probabilities + t * num_experts, *g = gates + t * top_k;
        const float *dg = d_gates + t * top_k;
        float *dp = d_probabilities + t * num_experts, *d = d_logits + t * num_experts;
        const i64 *chosen = experts + t * top_k;
        float mean = 0.0f, gates_mean = 0.0f;
        if (!normalize)
            for (i64 k = 0; k < top_k; k++) dp[chosen[k]] += dg[k];
#pragma omp simd reduction(+ : mean)
        for (i64 e = 0; e < num_experts; e++) mean += dp[e] * p[e];
#pragma omp simd
        for (i64 e = 0; e < num_experts; e++) d[e] = p[e] * (dp[e] - mean);
        if (!normalize) continue;
        for (i64 k = 0; k < top_k; k++) gates_mean += dg[k] * g[k];
        for (i64 k = 0; k < top_k; k++) d[chosen[k]] += g[k] * (dg[k] - gates_mean);
    }
    return 0;
}

#include "adafactor.h"
#include "decode.h"

#include "arena.h"
#include "transpose.h"
#include "micro_kernel.h"
#include "multiply.h"
#include "linear.h"
#include "hidden_units.h"
#include "feed_forward.h"
#include "loss_f32.h"

/* Where the attention weights of a chunk of TILE queries begin: chunk c has [TILE, (c + 1) *
 * TILE]. */
static i64 weights_offset(i64 chunk) { return TILE * TILE * (chunk * (chunk + 1) / 2); }

#define IS_F32 (sizeof(T) == sizeof(float))

#define T float
#define OF(name) name##_f32
#include "attention.inc"
#undef T
#undef OF

#ifdef __AVX512BF16__
#include "gemm_bf16.h"
#define T bf16
#define OF(name) name##_bf16
#include "attention.inc"
#undef T
#undef OF
#include "tiles_bf16.h"
#include "linear_bf16.h"
#include "feed_forward_bf16.h"
#include "experts_bf16.h"
#endif

/* With AMX, recomputing the logits costs less than storing [tokens, V] of them. */
#ifdef __AMX_BF16__
#include "loss_bf16.h"
#endif
