/* What the kernels compute, each operation by its formula: plain loops over float64, one element
 * after another, nothing packed, no threads. experiments/check_c holds every kernel against them.
 * They are no part of the library.
 *
 * Arrays are contiguous and row-major, as the kernels take them; what is rounded to bfloat16 there is
 * not rounded here. decode.h has its own: reference_decode.h. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;

/* c [n, m] = a [n, k] b [k, m]. */
static void reference_product(const double *a, const double *b, double *c, i64 n, i64 k, i64 m) {
    for (i64 i = 0; i < n; i++)
        for (i64 j = 0; j < m; j++) {
            c[i * m + j] = 0.0;
            for (i64 l = 0; l < k; l++) c[i * m + j] += a[i * k + l] * b[l * m + j];
        }
}

/* y [columns, rows] = the transpose of x [rows, columns]. */
static void reference_transpose(const double *x, double *y, i64 rows, i64 columns) {
    for (i64 i = 0; i < rows; i++)
        for (i64 j = 0; j < columns; j++) y[j * rows + i] = x[i * columns + j];
}

/* Phi(x) of the standard normal distribution, and its density phi(x). */
static double normal_cdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
static double normal_density(double x) { return exp(-0.5 * x * x) / sqrt(2.0 * M_PI); }

static double reference_gelu_of(double x) { return x * normal_cdf(x); }
static double reference_gelu_slope(double x) { return normal_cdf(x) + x * normal_density(x); }

/* y [n] = GELU(x) = x Phi(x). */
static void reference_gelu(const double *x, double *y, i64 n) {
    for (i64 i = 0; i < n; i++) y[i] = reference_gelu_of(x[i]);
}

/* d_x [n] = d_y (Phi(x) + x phi(x)). */
static void reference_gelu_backward(const double *d_y, const double *x, double *d_x, i64 n) {
    for (i64 i = 0; i < n; i++) d_x[i] = d_y[i] * reference_gelu_slope(x[i]);
}

/* y [n] = GELU(gate) x. */
static void reference_geglu(const double *gate, const double *x, double *y, i64 n) {
    for (i64 i = 0; i < n; i++) y[i] = reference_gelu_of(gate[i]) * x[i];
}

/* d_gate [n] = d_y x GELU'(gate), d_x [n] = d_y GELU(gate). */
static void reference_geglu_backward(const double *d_y, const double *gate, const double *x,
                                     double *d_gate, double *d_x, i64 n) {
    for (i64 i = 0; i < n; i++) {
        d_gate[i] = d_y[i] * x[i] * reference_gelu_slope(gate[i]);
        d_x[i] = d_y[i] * reference_gelu_of(gate[i]);
    }
}

/* Of gated [rows, width] = gate GELU(x), from the gradient d of GELU(x) without the gate: d_x = gate
 * d GELU'(x), d_gates [rows] = sum over a row of d GELU(x). */
static void reference_gated_gelu_backward(const double *x, const double *gates, const double *d,
                                          double *d_x, double *gated, double *d_gates, i64 rows,
                                          i64 width) {
    for (i64 r = 0; r < rows; r++) {
        d_gates[r] = 0.0;
        for (i64 i = r * width; i < (r + 1) * width; i++) {
            d_x[i] = gates[r] * d[i] * reference_gelu_slope(x[i]);
            gated[i] = gates[r] * reference_gelu_of(x[i]);
            d_gates[r] += d[i] * reference_gelu_of(x[i]);
        }
    }
}

/* y [tokens, width] = sum over k of gates [tokens, k] rows[row_of_choice [tokens, k]]. */
static void reference_sum_of_choices(const double *rows, const i64 *row_of_choice,
                                     const double *gates, double *y, i64 tokens, i64 top_k,
                                     i64 width) {
    for (i64 t = 0; t < tokens; t++)
        for (i64 j = 0; j < width; j++) {
            y[t * width + j] = 0.0;
            for (i64 k = t * top_k; k < (t + 1) * top_k; k++)
                y[t * width + j] += (gates ? gates[k] : 1.0) * rows[row_of_choice[k] * width + j];
        }
}

/* total [n] += product [n]. */
static void reference_add_narrow(double *total, const double *product, i64 n) {
    for (i64 i = 0; i < n; i++) total[i] += product[i];
}

/* inverse [rows] = 1 / sqrt(mean of a row's x^2 + eps), y [rows, width] = x inverse scale. */
static void reference_rms_norm(const double *x, const double *scale, double *y, double *inverse,
                               i64 rows, i64 width, double eps) {
    for (i64 r = 0; r < rows; r++) {
        double total = 0.0;
        for (i64 j = 0; j < width; j++) total += x[r * width + j] * x[r * width + j];
        inverse[r] = 1.0 / sqrt(total / width + eps);
        for (i64 j = 0; j < width; j++) y[r * width + j] = x[r * width + j] * inverse[r] * scale[j];
    }
}

/* d_x = inverse (d_y scale - x inverse^2 mean(d_y scale x)); d_scale [width] = sum of d_y x
 * inverse. */
static void reference_rms_norm_backward(const double *d_y, const double *x, const double *scale,
                                        const double *inverse, double *d_x, double *d_scale,
                                        i64 rows, i64 width) {
    memset(d_scale, 0, width * sizeof(double));
    for (i64 r = 0; r < rows; r++) {
        double mean = 0.0;
        for (i64 j = 0; j < width; j++) {
            i64 at = r * width + j;
            mean += d_y[at] * scale[j] * x[at] / width;
            d_scale[j] += d_y[at] * x[at] * inverse[r];
        }
        for (i64 j = 0; j < width; j++) {
            i64 at = r * width + j;
            d_x[at] = inverse[r] * (d_y[at] * scale[j] - x[at] * inverse[r] * inverse[r] * mean);
        }
    }
}

/* Where a bias [heads, PAD + window + PAD] has the distance of a key from its query: the farthest
 * first; -1 beyond the window, where the bias is 0. */
static i64 place_of_distance(i64 head, i64 window, i64 distance) {
    if (distance >= window) return -1;
    return head * (window + 2 * PAD) + PAD + window - 1 - distance;
}

/* weights [rows, keys] of one head, whose queries are the last of `keys` positions: row by row the
 * softmax over keys up to the query of scale * product + bias(distance) + mask[query, key]; 0 ahead.
 * mask [.., length], or NULL. */
static void reference_attention_weights(const double *products, const double *bias,
                                        const double *mask, double *weights, i64 head, i64 rows,
                                        i64 keys, i64 window, i64 length, double scale) {
    for (i64 r = 0; r < rows; r++) {
        i64 query = keys - rows + r;
        double *w = weights + r * keys, largest = -INFINITY, total = 0.0;
        for (i64 j = 0; j < keys; j++) {
            i64 place = place_of_distance(head, window, query - j);
            w[j] = scale * products[r * keys + j];
            if (j <= query && place >= 0) w[j] += bias[place];
            if (j <= query && mask) w[j] += mask[query * length + j];
            if (j <= query && w[j] > largest) largest = w[j];
        }
        for (i64 j = 0; j < keys; j++) total += w[j] = j <= query ? exp(w[j] - largest) : 0.0;
        for (i64 j = 0; j < keys; j++) w[j] /= total;
    }
}

/* d_products [rows, keys] = scale w (d - sum over a row of w d); the same without the scale is added
 * to d_bias at its distance. */
static void reference_attention_weights_backward(const double *d, const double *weights,
                                                 double *d_products, double *d_bias, i64 head,
                                                 i64 rows, i64 keys, i64 window, double scale) {
    for (i64 r = 0; r < rows; r++) {
        double mean = 0.0;
        for (i64 j = r * keys; j < (r + 1) * keys; j++) mean += weights[j] * d[j];
        for (i64 j = 0; j < keys; j++) {
            i64 at = r * keys + j, query = keys - rows + r;
            double logit = weights[at] * (d[at] - mean);
            i64 place = j <= query ? place_of_distance(head, window, query - j) : -1;
            d_products[at] = scale * logit;
            if (place >= 0) d_bias[place] += logit;
        }
    }
}

/* losses [rows] = log(sum over v of exp(x_v)) - x_target, where x is the row of logits [rows, V], or
 * cap * tanh(logits / cap) where cap > 0; d_logits = (softmax(x) - onehot(target)) dx / dlogit. */
static void reference_cross_entropy(const double *logits, const i64 *targets, double *losses,
                                    double *d_logits, i64 rows, i64 V, double cap) {
    for (i64 r = 0; r < rows; r++) {
        double *x = d_logits + r * V, largest = -INFINITY, total = 0.0;
        for (i64 v = 0; v < V; v++) {
            double logit = logits[r * V + v];
            x[v] = cap > 0.0 ? cap * tanh(logit / cap) : logit;
            if (x[v] > largest) largest = x[v];
        }
        for (i64 v = 0; v < V; v++) total += exp(x[v] - largest);
        losses[r] = log(total) + largest - x[targets[r]];
        for (i64 v = 0; v < V; v++) {
            double slope = cap > 0.0 ? 1.0 - x[v] * x[v] / (cap * cap) : 1.0;
            x[v] = (exp(x[v] - largest) / total - (v == targets[r])) * slope;
        }
    }
}

/* One head: y [length, width] = softmax(scale q k^T + bias + mask) v, and the weights
 * [length, length]. */
static void reference_attention(const double *q, const double *k, const double *v,
                                const double *bias, const double *mask, double *weights, double *y,
                                i64 head, i64 length, i64 width, i64 window, double scale) {
    double *turned = malloc(length * width * sizeof(double));
    double *products = malloc(length * length * sizeof(double));
    reference_transpose(k, turned, length, width);
    reference_product(q, turned, products, length, width, length);
    reference_attention_weights(products, bias, mask, weights, head, length, length, window, length,
                                scale);
    reference_product(weights, v, y, length, length, width);
    free(turned), free(products);
}

/* Its gradient: d_v = w^T d_y, d_q = d_products k, d_k = d_products^T q, with d_products and d_bias of
 * `reference_attention_weights_backward` from d = d_y v^T. */
static void reference_attention_backward(const double *q, const double *k, const double *v,
                                         const double *weights, const double *d_y, double *d_q,
                                         double *d_k, double *d_v, double *d_bias, i64 head,
                                         i64 length, i64 width, i64 window, double scale) {
    i64 whole = length * length;
    double *turned = malloc((length * width + 3 * whole) * sizeof(double));
    double *d = turned + length * width, *d_products = d + whole, *transposed = d_products + whole;
    reference_transpose(weights, transposed, length, length);
    reference_product(transposed, d_y, d_v, length, length, width);
    reference_transpose(v, turned, length, width);
    reference_product(d_y, turned, d, length, width, length);
    reference_attention_weights_backward(d, weights, d_products, d_bias, head, length, length,
                                         window, scale);
    reference_product(d_products, k, d_q, length, length, width);
    reference_transpose(d_products, transposed, length, length);
    reference_product(transposed, q, d_k, length, length, width);
    free(turned);
}

/* One expert's rows, pre_activation [rows, H] = x w_in and y [rows, M] = GELU(pre_activation)
 * w_out; x [rows, M], w_in [M, H], w_out [H, M]. */
static void reference_experts(const double *x, const double *w_in, const double *w_out,
                              double *pre_activation, double *y, i64 rows, i64 M, i64 H) {
    double *hidden = malloc((rows * H + 1) * sizeof(double));
    reference_product(x, w_in, pre_activation, rows, M, H);
    reference_gelu(pre_activation, hidden, rows * H);
    reference_product(hidden, w_out, y, rows, H, M);
    free(hidden);
}

/* Its gradient from d_y, of which an output's gate is no part yet: with d_hidden = d_y w_out^T and
 * what `reference_gated_gelu_backward` makes of it, d_rows = d w_in^T, d_w_in = x^T d, d_w_out =
 * gated^T d_y. */
static void reference_experts_backward(const double *x, const double *d_y, const double *w_in,
                                       const double *w_out, const double *pre_activation,
                                       const double *gates, double *d_rows, double *d_gates,
                                       double *d_w_in, double *d_w_out, i64 rows, i64 M, i64 H) {
    double *turned = malloc((M * H + 3 * rows * H + rows * M + 1) * sizeof(double));
    double *d_hidden = turned + M * H, *d = d_hidden + rows * H, *gated = d + rows * H;
    double *transposed = gated + rows * H;
    reference_transpose(w_out, turned, H, M);
    reference_product(d_y, turned, d_hidden, rows, M, H);
    reference_gated_gelu_backward(pre_activation, gates, d_hidden, d, gated, d_gates, rows, H);
    reference_transpose(w_in, turned, M, H);
    reference_product(d, turned, d_rows, rows, H, M);
    reference_transpose(x, transposed, rows, M);
    reference_product(transposed, d, d_w_in, M, rows, H);
    reference_transpose(gated, d_hidden, rows, H);
    reference_product(d_hidden, d_y, d_w_out, H, rows, M);
    free(turned);
}

/* y [rows, M] = hidden w_out with hidden [rows, H] = GELU(x w_in), or GELU(x w_gate) (x w_in) where
 * w_gate is not NULL; and from d_y: d_x [rows, M] and the gradients of the weights. */
static void reference_feed_forward(const double *x, const double *d_y, const double *w_gate,
                                   const double *w_in, const double *w_out, double *y, double *d_x,
                                   double *d_w_gate, double *d_w_in, double *d_w_out, i64 rows,
                                   i64 M, i64 H) {
    i64 n = rows * H;
    double *gate = malloc((6 * n + rows * M + M * H) * sizeof(double)), *in = gate + n;
    double *hidden = in + n, *d = hidden + n, *d_gate = d + n, *d_in = d_gate + n;
    double *turned = d_in + n, *part = turned + M * H;
    reference_product(x, w_in, in, rows, M, H);
    if (w_gate) reference_product(x, w_gate, gate, rows, M, H);
    if (w_gate) reference_geglu(gate, in, hidden, n);
    else reference_gelu(in, hidden, n);
    reference_product(hidden, w_out, y, rows, H, M);
    reference_transpose(w_out, turned, H, M);
    reference_product(d_y, turned, d, rows, M, H);
    if (w_gate) reference_geglu_backward(d, gate, in, d_gate, d_in, n);
    else reference_gelu_backward(d, in, d_in, n);
    reference_transpose(w_in, turned, M, H);
    reference_product(d_in, turned, d_x, rows, H, M);
    if (w_gate) {
        reference_transpose(w_gate, turned, M, H);
        reference_product(d_gate, turned, part, rows, H, M);
        for (i64 i = 0; i < rows * M; i++) d_x[i] += part[i];
    }
    reference_transpose(x, part, rows, M);
    reference_product(part, d_in, d_w_in, M, rows, H);
    if (w_gate) reference_product(part, d_gate, d_w_gate, M, rows, H);
    reference_transpose(hidden, d, rows, H);
    reference_product(d, d_y, d_w_out, H, rows, M);
    free(gate);
}

/* losses [tokens] of logits x w^T (x [tokens, M], w [V, M]), and the gradients of their sum times
 * `scale`: d_x = scale d_logits w, d_w = scale d_logits^T x. */
static void reference_output_loss(const double *x, const double *w, const i64 *targets,
                                  double *losses, double *d_x, double *d_w, i64 tokens, i64 M,
                                  i64 V, double cap, double scale) {
    double *turned = malloc(V * M * sizeof(double));
    double *logits = malloc(tokens * V * sizeof(double)), *d = malloc(tokens * V * sizeof(double));
    reference_transpose(w, turned, V, M);
    reference_product(x, turned, logits, tokens, M, V);
    reference_cross_entropy(logits, targets, losses, d, tokens, V, cap);
    for (i64 i = 0; i < tokens * V; i++) d[i] *= scale;
    reference_product(d, w, d_x, tokens, V, M);
    reference_transpose(d, logits, tokens, V);
    reference_product(logits, x, d_w, V, tokens, M);
    free(turned), free(logits), free(d);
}

/* 1 where a number of x [n] is no index below `limit` or, with a `multiple` above 0, where they do not
 * ascend by multiples of it. */
static int reference_outside(const i64 *x, i64 n, i64 limit, i64 multiple) {
    for (i64 i = 0; i < n; i++) {
        if (x[i] < 0 || x[i] >= limit) return 1;
        if (multiple > 0 && (x[i] % multiple || (i > 0 && x[i] < x[i - 1]))) return 1;
    }
    return 0;
}

/* Rows of an expert in the order of their tokens: `next` [E] has each expert's first row, and is left
 * at its end. */
static void reference_sort_by_expert(const i64 *expert_of_choice, i64 *next, i64 *row_of_choice,
                                     i64 *token_of_row, i64 tokens, i64 top_k, i64 E) {
    for (i64 e = 0; e < E; e++)
        for (i64 i = 0; i < tokens * top_k; i++)
            if (expert_of_choice[i] == e) {
                row_of_choice[i] = next[e]++;
                token_of_row[row_of_choice[i]] = i / top_k;
            }
}

/* probabilities [tokens, E] = softmax(logits); experts [tokens, K], those of the highest sum of logit
 * and bias, the first of equals, in the order of their logits; gates [tokens, K] = their
 * probabilities, over the sum of them where `normalize`. */
static void reference_route(const double *logits, const double *bias, i64 *experts, double *gates,
                            double *probabilities, i64 tokens, i64 E, i64 K, int normalize) {
    for (i64 t = 0; t < tokens; t++) {
        const double *row = logits + t * E;
        double *p = probabilities + t * E, *g = gates + t * K, largest = -INFINITY, total = 0.0;
        i64 *chosen = experts + t * K;
        for (i64 e = 0; e < E; e++) largest = row[e] > largest ? row[e] : largest;
        for (i64 e = 0; e < E; e++) total += p[e] = exp(row[e] - largest);
        for (i64 e = 0; e < E; e++) p[e] /= total;
        total = 0.0;
        for (i64 k = 0; k < K; k++) {
            chosen[k] = -1;
            for (i64 e = 0; e < E; e++) {
                int taken = 0;
                for (i64 before = 0; before < k; before++) taken |= chosen[before] == e;
                double sum = row[e] + (bias ? bias[e] : 0.0), best = -INFINITY;
                if (chosen[k] >= 0) best = row[chosen[k]] + (bias ? bias[chosen[k]] : 0.0);
                if (!taken && (chosen[k] < 0 || sum > best)) chosen[k] = e;
            }
        }
        for (i64 pass = 0; bias && pass < K; pass++)
            for (i64 k = 1; k < K; k++)
                if (row[chosen[k]] > row[chosen[k - 1]]) {
                    i64 lower = chosen[k - 1];
                    chosen[k - 1] = chosen[k], chosen[k] = lower;
                }
        for (i64 k = 0; k < K; k++) total += g[k] = p[chosen[k]];
        for (i64 k = 0; normalize && k < K; k++) g[k] /= total;
    }
}

/* d_logits [tokens, E]: of the probabilities p (d - sum of p d), and of the gates, where normalized
 * g (d_gate - sum of g d_gate) at the chosen experts; else they are probabilities too. */
static void reference_route_backward(const double *d_gates, const double *d_probabilities,
                                     const i64 *experts, const double *gates,
                                     const double *probabilities, double *d_logits, i64 tokens,
                                     i64 E, i64 K, int normalize) {
    for (i64 t = 0; t < tokens; t++) {
        const double *p = probabilities + t * E, *dp = d_probabilities + t * E;
        double mean = 0.0, gates_mean = 0.0;
        for (i64 e = 0; e < E; e++) mean += p[e] * dp[e];
        for (i64 k = t * K; k < (t + 1) * K; k++)
            gates_mean += d_gates[k] * (normalize ? gates[k] : p[experts[k]]);
        for (i64 e = 0; e < E; e++) {
            double *out = d_logits + t * E + e;
            *out = p[e] * (dp[e] - mean);
            if (!normalize) *out -= p[e] * gates_mean;
            for (i64 k = t * K; k < (t + 1) * K; k++)
                if (experts[k] == e)
                    *out += normalize ? gates[k] * (d_gates[k] - gates_mean) : p[e] * d_gates[k];
        }
    }
}
