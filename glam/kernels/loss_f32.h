/* Logits of the tied embedding, their cross-entropy and its gradients in float32: three products
 * for a block of tokens at a time, whose logits stay in the cache where the vocabulary is small. */

/* Tokens of a block: enough for the products, whose weights are read once a block; the gradient of
 * w is read and written once a block too. At most MOST_LOGITS logits, 128 MB. */
#define FEWEST_TOKENS 128
#define MOST_TOKENS   512
#define MOST_LOGITS   (1 << 25)
#define LOGIT_COLUMNS (8 * PANEL) /* of a product that one thread makes */

/* The arguments of `output_loss_f32`, and the logits of a block [tokens of a block, V]. */
struct output_loss {
    const float *x, *w;
    const i64 *targets;
    float *losses, *d_x, *d_w, *logits;
    i64 M, V;
    float cap, scale;
};

static i64 tokens_of_block(i64 tokens, i64 M, i64 V) {
    i64 block = M < FEWEST_TOKENS ? FEWEST_TOKENS : lesser(M, MOST_TOKENS);
    i64 fit = MOST_LOGITS / V > 0 ? MOST_LOGITS / V : 1;
    return lesser(lesser(block, fit), tokens);
}

/* Every thread of a parallel region runs it for n tokens from `first` on. row [V] is the thread's
 * own. */
static void loss_of_block(const struct output_loss *o, i64 first, i64 n, float *row,
                          struct product_space *space, i64 threads) {
    i64 M = o->M, V = o->V;
#pragma omp for schedule(dynamic)
    for (i64 j = 0; j < V; j += LOGIT_COLUMNS) {
        struct product p = {.a = o->x + first * M,
                            .b = o->w + j * M,
                            .c = o->logits + j,
                            .lda = M,
                            .ldb = M,
                            .ldc = V,
                            .n = n,
                            .N = lesser(LOGIT_COLUMNS, V - j),
                            .K = M,
                            .transposed = 1};
        multiply(&p, space);
    }
#pragma omp for
    for (i64 r = 0; r < n; r++)
        o->losses[first + r] = entropy_by_cap_f32(o->logits + r * V, o->targets[first + r], V,
                                                  o->cap, o->d_x != NULL, o->scale, row);
    if (!o->d_x) return;
#pragma omp for
    for (i64 t = 0; t < threads; t++) {
        i64 from = n * t / threads, to = n * (t + 1) / threads;
        struct product p = {.a = o->logits + from * V,
                            .b = o->w,
                            .c = o->d_x + (first + from) * M,
                            .lda = V,
                            .ldb = M,
                            .ldc = M,
                            .n = to - from,
                            .N = M,
                            .K = V};
        struct gradient g = {.a = o->logits,
                             .b = o->x + first * M,
                             .c = o->d_w,
                             .lda = V,
                             .ldb = M,
                             .ldc = M,
                             .n = V,
                             .N = M,
                             .K = n,
                             .add = first > 0};
        multiply(&p, space);
        multiply_gradient(&g, t, threads, space);
    }
}

/* losses [tokens] in nats of x [tokens, M] by the tied embedding w [V, M]. Unless d_x is NULL: d_x
 * and d_w, the gradients of the losses' sum times `scale`. With cap > 0 logits are cap *
 * tanh(logits / cap).
 *
 * Returns 1 where a target is outside the vocabulary, -1 where there is no memory.
 * Reference: reference_output_loss. */
int output_loss_f32(const float *x, const float *w, const i64 *targets, float *losses, float *d_x,
                    float *d_w, i64 tokens, i64 M, i64 V, float cap, float scale, int w_is_f32,
                    int threads) {
    (void)w_is_f32;
    for (i64 i = 0; i < tokens; i++)
        if (targets[i] < 0 || targets[i] >= V) return 1;
    i64 block = tokens_of_block(tokens, M, V);
    struct product_space *spaces = alloc_spaces(threads);
    float *logits = malloc(block * V * sizeof(float)), *rows = malloc(threads * V * sizeof(float));
    struct output_loss o = {x, w, targets, losses, d_x, d_w, logits, M, V, cap, scale};
    int failed = !spaces || !logits || !rows ? -1 : 0;
    if (!failed)
#pragma omp parallel num_threads(threads)
        for (i64 first = 0; first < tokens; first += block)
            loss_of_block(&o, first, lesser(block, tokens - first), rows + omp_get_thread_num() * V,
                          spaces + omp_get_thread_num(), threads);
    free(spaces), free(logits), free(rows);
    return failed;
}
