/* Reference of decoding: the whole model over the whole text, from the definition (paper, section 4),
 * with nothing kept from one token to the next; see reference.h. */

/* A layer's weights; the router is NULL in a layer without experts, the gate in a feed-forward without
 * one. */
struct reference_layer {
    double *attention_norm, *query, *key, *value, *out; /* [M], [M, N D] three times, [N D, M] */
    double *ffn_norm, *router, *router_bias, *choice_bias; /* [M], [M, E], [E], [E] or NULL */
    double *w_in, *w_out, *gate;                        /* [E, M, H], [E, H, M], [M, H] */
    double *bias;                                       /* [N, PAD + window + PAD] */
};

struct reference_model {
    i64 L, M, N, D, E, K, H, V, window;
    int normalize;
    double cap, threshold;
    double *embedding, *norm; /* [V, M], [M] */
    struct reference_layer *layers;
};

/* normal [rows, M] = the RMS norm of x. */
static void reference_norm(const double *x, const double *scale, double *normal, i64 rows, i64 M) {
    double *inverse = malloc(rows * sizeof(double));
    reference_rms_norm(x, scale, normal, inverse, rows, M, 1e-6);
    free(inverse);
}

/* x [n, M] += the attention of a layer. */
static void reference_attend(const struct reference_model *m, const struct reference_layer *layer,
                             double *x, i64 n) {
    i64 A = m->N * m->D, M = m->M, D = m->D;
    double *normal = malloc((n * M + 3 * n * A + 5 * n * D + n * n + n * A) * sizeof(double));
    double *qkv[3], *heads[4], *at = normal + n * M, *attended;
    const double *w[3] = {layer->query, layer->key, layer->value};
    for (int i = 0; i < 3; i++, at += n * A) qkv[i] = at;
    for (int i = 0; i < 4; i++, at += n * D) heads[i] = at;
    attended = at;
    double *weights = attended + n * A;
    reference_norm(x, layer->attention_norm, normal, n, M);
    for (int i = 0; i < 3; i++) reference_product(normal, w[i], qkv[i], n, M, A);
    for (i64 head = 0; head < m->N; head++) {
        for (int i = 0; i < 3; i++)
            for (i64 j = 0; j < n * D; j++) heads[i][j] = qkv[i][j / D * A + head * D + j % D];
        reference_attention(heads[0], heads[1], heads[2], layer->bias, NULL, weights, heads[3], head,
                            n, D, m->window, 1.0 / sqrt((double)D));
        for (i64 j = 0; j < n * D; j++) attended[j / D * A + head * D + j % D] = heads[3][j];
    }
    reference_product(attended, layer->out, normal, n, A, M);
    for (i64 i = 0; i < n * M; i++) x[i] += normal[i];
    free(normal);
}

/* x [n, M] += the feed-forward without experts. */
static void reference_decode_feed_forward(const struct reference_model *m,
                                   const struct reference_layer *layer, double *x, i64 n) {
    i64 M = m->M, H = m->H;
    double *normal = malloc((n * M + 2 * n * H) * sizeof(double));
    double *hidden = normal + n * M, *gate = hidden + n * H;
    reference_norm(x, layer->ffn_norm, normal, n, M);
    reference_product(normal, layer->w_in, hidden, n, M, H);
    if (layer->gate) reference_product(normal, layer->gate, gate, n, M, H);
    if (layer->gate) reference_geglu(gate, hidden, hidden, n * H);
    else reference_gelu(hidden, hidden, n * H);
    reference_product(hidden, layer->w_out, normal, n, H, M);
    for (i64 i = 0; i < n * M; i++) x[i] += normal[i];
    free(normal);
}

/* The least distance of what a token chose from what it did not, of a chosen logit from the next, and
 * of a gate from the threshold: below what rounding moves, another expert may be as right. */
static double reference_margin(const struct reference_model *m, const double *logits,
                               const double *bias, const i64 *chosen, const double *gates) {
    double margin = INFINITY;
    for (i64 e = 0; e < m->E; e++) {
        int is_chosen = 0;
        double least = INFINITY;
        for (i64 k = 0; k < m->K; k++) {
            is_chosen |= chosen[k] == e;
            least = fmin(least, logits[chosen[k]] + (bias ? bias[chosen[k]] : 0.0));
        }
        if (!is_chosen) margin = fmin(margin, least - logits[e] - (bias ? bias[e] : 0.0));
    }
    for (i64 k = 1; k < m->K; k++) {
        margin = fmin(margin, logits[chosen[k - 1]] - logits[chosen[k]]);
        if (m->threshold >= 0) margin = fmin(margin, fabs(gates[k] - m->threshold));
    }
    return margin;
}

/* x [n, M] += the gated sum of the chosen experts, without those after the first whose gate is at most
 * the threshold. Returns the least margin. */
static double reference_mixture(const struct reference_model *m, const struct reference_layer *layer,
                                double *x, i64 n) {
    i64 M = m->M, E = m->E, K = m->K, H = m->H, *chosen = malloc(n * K * sizeof(i64));
    double *normal = malloc((n * (M + 2 * E + K) + M + H) * sizeof(double)), margin = INFINITY;
    double *logits = normal + n * M, *probabilities = logits + n * E, *gates = probabilities + n * E;
    double *y = gates + n * K, *hidden = y + M;
    reference_norm(x, layer->ffn_norm, normal, n, M);
    reference_product(normal, layer->router, logits, n, M, E);
    for (i64 i = 0; i < n * E; i++) logits[i] += layer->router_bias[i % E];
    reference_route(logits, layer->choice_bias, chosen, gates, probabilities, n, E, K, m->normalize);
    for (i64 t = 0; t < n; t++) {
        margin = fmin(margin, reference_margin(m, logits + t * E, layer->choice_bias, chosen + t * K,
                                               gates + t * K));
        for (i64 k = 0; k < K; k++) {
            double gate = gates[t * K + k];
            i64 at = chosen[t * K + k] * M * H;
            if (k && gate <= m->threshold) continue;
            reference_experts(normal + t * M, layer->w_in + at, layer->w_out + at, hidden, y, 1, M, H);
            for (i64 i = 0; i < M; i++) x[t * M + i] += gate * y[i];
        }
    }
    free(normal), free(chosen);
    return margin;
}

/* logits [V] of the token after a text of n tokens. Returns the least margin of its choices of
 * experts. */
static double reference_decode(const struct reference_model *m, const i64 *tokens, i64 n,
                               double *logits) {
    i64 M = m->M, V = m->V;
    double *x = malloc((n * M + V * M) * sizeof(double)), *turned = x + n * M, margin = INFINITY;
    for (i64 i = 0; i < n * M; i++) x[i] = sqrt((double)M) * m->embedding[tokens[i / M] * M + i % M];
    for (i64 l = 0; l < m->L; l++) {
        const struct reference_layer *layer = m->layers + l;
        reference_attend(m, layer, x, n);
        if (layer->router) margin = fmin(margin, reference_mixture(m, layer, x, n));
        else reference_decode_feed_forward(m, layer, x, n);
    }
    double *last = x + (n - 1) * M;
    reference_norm(last, m->norm, last, 1, M);
    reference_transpose(m->embedding, turned, V, M);
    reference_product(last, turned, logits, 1, M, V);
    for (i64 v = 0; m->cap > 0.0 && v < V; v++) logits[v] = m->cap * tanh(logits[v] / m->cap);
    free(x);
    return margin;
}
