/* Decoding text by text in calls of several rows, against the whole model over the whole text. */

/* As of decode.h. */
enum { IS_F32, IS_BF16, IS_I8, IS_PACKED_F32, IS_PACKED_BF16 };
enum { PER_LAYER = 13, PER_EXPERT = 4, NUM_SIZES = 13, MOST_LAYERS = 3 };

static int is_narrow(int type) { return type == IS_BF16 || type == IS_PACKED_BF16; }

/* `count` matrices [n, m] of a type, one after another: the address of the first; in `plain` their
 * numbers, and in `apart` the bytes from one to the next. In int8 `scales` [count, m] are those of the
 * columns. */
static i64 matrices(int type, i64 count, i64 n, i64 m, double by, double **plain, i64 *apart,
                    float **scales) {
    i64 whole = n * m, even_n = (n + 1) / 2 * 2, packed = even_n * ((m + LANES - 1) / LANES * LANES);
    int is_packed = type == IS_PACKED_F32 || type == IS_PACKED_BF16;
    i64 each = is_packed ? packed : whole, of = type == IS_I8 ? 1 : is_narrow(type) ? 2 : 4;
    char *at = take(count * each, of);
    if (is_packed) memset(at, 0, count * each * of);
    if (type == IS_I8) *scales = floats(count * m);
    *plain = wide(count * whole);
    for (i64 i = 0; i < count * m && type == IS_I8; i++) (*scales)[i] = (float)(by * uniform() / 60);
    for (i64 i = 0; i < count * whole; i++) {
        i64 k = i / whole, row = i % whole / m, column = i % m;
        i64 to = k * each + (is_packed ? packed_place(row, column, n, m, of == 2) : i % whole);
        float x = (float)(by * normal());
        if (of == 4) (*plain)[i] = ((float *)at)[to] = x;
        if (of == 2) (*plain)[i] = widen_bf16(((bf16 *)at)[to] = narrow_bf16(x));
        if (of == 1) (*plain)[i] = (((int8_t *)at)[to] = (int8_t)(below(255) - 127)) *
                                   (double)(*scales)[k * m + column];
    }
    *apart = each * of;
    return (i64)at;
}

static i64 matrix(int type, i64 n, i64 m, double by, double **plain) {
    i64 apart;
    return matrices(type, 1, n, m, by, plain, &apart, NULL);
}

/* A model, the kernel's tables of it, and a cache. */
struct decoding {
    struct reference_model model;
    struct reference_layer layers[MOST_LAYERS];
    i64 sizes[NUM_SIZES], *weights, *experts, texts, length;
    void *keys, *values;
    float *bias, *scratch, *gates;
    i64 *chosen;
    int type, expert_type, threads;
};

static void build_experts(struct decoding *d, i64 l) {
    struct reference_model *m = &d->model;
    struct reference_layer *layer = d->layers + l;
    i64 in_apart, out_apart, E = m->E;
    float *in_scales = NULL, *out_scales = NULL;
    i64 in = matrices(d->expert_type, E, m->M, m->H, 0.3, &layer->w_in, &in_apart, &in_scales);
    i64 out = matrices(d->expert_type, E, m->H, m->M, 0.3, &layer->w_out, &out_apart, &out_scales);
    for (i64 e = 0; e < E; e++) {
        i64 *to = d->experts + (l * E + e) * PER_EXPERT;
        to[0] = in + e * in_apart, to[1] = out + e * out_apart;
        to[2] = in_scales ? (i64)(in_scales + e * m->H) : 0;
        to[3] = out_scales ? (i64)(out_scales + e * m->M) : 0;
    }
}

static void build_layer(struct decoding *d, i64 l) {
    struct reference_model *m = &d->model;
    struct reference_layer *layer = d->layers + l;
    i64 *w = d->weights + l * PER_LAYER, A = m->N * m->D, M = m->M, C = d->length;
    memset(w, 0, PER_LAYER * sizeof(i64));
    memset(layer, 0, sizeof *layer);
    w[0] = (i64)random_f32(&layer->attention_norm, M, 1.0);
    w[1] = matrix(d->type, M, A, 0.3, &layer->query);
    w[2] = matrix(d->type, M, A, 0.3, &layer->key);
    w[3] = matrix(d->type, M, A, 0.3, &layer->value);
    w[4] = matrix(d->type, A, M, 0.3, &layer->out);
    w[5] = (i64)random_f32(&layer->ffn_norm, M, 1.0);
    if (one_in(2)) {
        w[6] = (i64)random_f32(&layer->router, M * m->E, 1.0);
        w[7] = (i64)random_f32(&layer->router_bias, m->E, 1.0);
        if (one_in(2)) w[8] = (i64)random_f32(&layer->choice_bias, m->E, 1.0);
        build_experts(d, l);
    } else {
        if (one_in(2)) w[9] = matrix(d->type, M, m->H, 0.3, &layer->gate);
        w[10] = matrix(d->type, M, m->H, 0.3, &layer->w_in);
        w[11] = matrix(d->type, m->H, M, 0.3, &layer->w_out);
        w[12] = m->H;
    }
    random_bias(&layer->bias, m->N, C);
    for (i64 n = 0; n < m->N; n++)
        for (i64 i = 0; i < C + LANES; i++)
            d->bias[(l * m->N + n) * (C + LANES) + i] =
                i < C ? (float)layer->bias[n * (C + 2 * PAD) + PAD + i] : -INFINITY;
}

static void build_cache(struct decoding *d) {
    struct reference_model *m = &d->model;
    i64 A = m->N * m->D, M = m->M, C = d->length, H = m->H * m->K > M ? m->H * m->K : M;
    i64 Dk = (m->D + 1) / 2 * 2, Dv = (m->D + LANES - 1) / LANES * LANES, rows = d->texts * C;
    i64 heads = m->L * d->texts * m->N, of = is_narrow(d->type) ? 2 : 4;
    d->keys = memset(take(heads * C * Dk, of), 0, heads * C * Dk * of);
    d->values = memset(take(heads * C * Dv, of), 0, heads * C * Dv * of);
    d->scratch = floats(rows * (3 * M + 4 * A + 2 * H + 2 * m->E) + d->threads * (C + Dv));
    d->chosen = numbers(rows * m->K), d->gates = floats(rows * m->K);
    i64 of_model[] = {m->L, M, m->N, m->D, m->E, m->K, m->H, m->V, d->texts, C, m->normalize,
                      d->type, d->expert_type};
    memcpy(d->sizes, of_model, sizeof of_model);
}

static struct decoding *build_decoding(void) {
    static const int of_expert[] = {IS_F32, IS_BF16, IS_I8, IS_PACKED_F32, IS_PACKED_BF16};
    struct decoding *d = take((sizeof *d + 7) / 8, 8);
    d->type = of_expert[(int[]){0, 1, 3, 4}[below(4)]], d->expert_type = of_expert[below(5)];
    /* A norm over few rounded numbers may turn a sign: a narrow model is not that narrow. */
    i64 M = is_narrow(d->type) ? 8 + below(33) : size(40);
    d->texts = 1 + below(3), d->length = LANES * (1 + below(2)), d->threads = threads();
    i64 E = size(5), K = 1 + below(E < 3 ? E : 3);
    d->model = (struct reference_model){
        .L = 1 + below(MOST_LAYERS), .M = M, .N = 1 + below(3), .D = size(20), .E = E,
        .K = K, .H = one_in(4) ? 300 : size(70), .V = size(90), .window = d->length,
        .normalize = one_in(2), .cap = one_in(2) ? 5.0 : 0.0, .threshold = one_in(2) ? 0.2 : -1.0,
        .layers = d->layers};
    struct reference_model *m = &d->model;
    d->weights = numbers(m->L * PER_LAYER + 3);
    d->experts = memset(numbers(m->L * E * PER_EXPERT), 0, m->L * E * PER_EXPERT * sizeof(i64));
    d->bias = floats(m->L * m->N * (d->length + LANES));
    for (i64 l = 0; l < m->L; l++) build_layer(d, l);
    int narrow = is_narrow(d->type);
    i64 *behind = d->weights + m->L * PER_LAYER;
    behind[0] = matrix(narrow ? IS_BF16 : IS_F32, m->V, m->M, 1.0, &m->embedding);
    behind[1] = (i64)random_f32(&m->norm, m->M, 1.0);
    behind[2] = 0;
    if (one_in(2)) { /* the embedding's transpose, packed */
        i64 all = (m->M + 1) / 2 * 2 * ((m->V + LANES - 1) / LANES * LANES);
        char *packed = take(all, narrow ? 2 : 4);
        memset(packed, 0, all * (narrow ? 2 : 4));
        for (i64 i = 0; i < m->V * m->M; i++) {
            i64 to = packed_place(i % m->M, i / m->M, m->M, m->V, narrow);
            if (narrow) ((bf16 *)packed)[to] = narrow_bf16((float)m->embedding[i]);
            else ((float *)packed)[to] = (float)m->embedding[i];
        }
        behind[2] = (i64)packed;
    }
    build_cache(d);
    SHAPES("texts %lld, C %lld, L %lld, M %lld, N %lld, D %lld, E %lld, K %lld, H %lld, V %lld, "
           "types %d %d, cap %g, threshold %g, threads %d", (long long)d->texts,
           (long long)d->length, (long long)m->L, (long long)m->M, (long long)m->N,
           (long long)m->D, (long long)E, (long long)K, (long long)m->H, (long long)m->V, d->type,
           d->expert_type, m->cap, m->threshold, d->threads);
    return d;
}

/* A call for rows [4, rows]: in one piece, or stage by stage, with the experts in two groups.
 * `expected` is what all of them return. */
static void decode_rows(struct decoding *d, const i64 *columns, i64 rows, float *logits,
                        int expected) {
    struct reference_model *m = &d->model;
    i64 end = 2 * m->L + 1, each = m->L * m->E * PER_EXPERT, *half = numbers(each);
    int whole = one_in(2);
    for (i64 first = 0; first < end; first = whole ? end : first + 1) {
        int groups = !whole && first % 2 && d->layers[first / 2].router && one_in(2) ? 2 : 1;
        for (int group = 0; group < groups; group++) {
            memcpy(half, d->experts, each * sizeof(i64));
            for (i64 i = 0; groups == 2 && i < each; i++)
                if (i / PER_EXPERT % 2 == group) half[i] = 0;
            returned(decode(columns, columns + rows, columns + 2 * rows, columns + 3 * rows,
                            d->sizes, d->weights, half, d->keys, d->values, d->bias, d->scratch,
                            d->chosen, d->gates, logits, rows, first, whole ? end : first + 1,
                            (float)m->cap, (float)m->threshold, d->threads), expected);
        }
    }
}

static void check_decode(void) {
    struct decoding *d = build_decoding();
    i64 V = d->model.V, C = d->length, done = 0, *tokens = numbers(d->texts * C);
    double *want = wide(V), tolerance = is_narrow(d->type) ? 3e-2 : 1e-4;
    float *logits = floats(d->texts * C * V);
    for (i64 i = 0; i < d->texts * C; i++) tokens[i] = below(V);
    while (done < C && !failures) { /* every text gets the same number of rows */
        i64 step = 1 + below(C - done < 6 ? C - done : 6), rows = 0, outputs = 0;
        i64 *columns = numbers(4 * step * d->texts), all = step * d->texts;
        for (i64 text = 0; text < d->texts; text++)
            for (i64 p = done; p < done + step; p++, rows++) {
                columns[rows] = tokens[text * C + p], columns[all + rows] = text;
                columns[2 * all + rows] = p;
                columns[3 * all + rows] = p == done + step - 1 || one_in(2);
            }
        i64 wrong = below(3 * rows), right = columns[wrong / rows * all + wrong % rows];
        i64 limits[] = {V, d->texts, C};
        columns[wrong / rows * all + wrong % rows] = one_in(2) ? -1 : limits[wrong / rows];
        decode_rows(d, columns, rows, logits, OUTSIDE);
        columns[wrong / rows * all + wrong % rows] = right;
        decode_rows(d, columns, rows, logits, 0);
        done += step;
        for (i64 r = 0; r < rows; r++) {
            if (!columns[3 * all + r]) continue;
            i64 text = columns[all + r], p = columns[2 * all + r];
            double margin = reference_decode(&d->model, tokens + text * C, p + 1, want);
            float *got = logits + outputs++ * V;
            if (margin > 100 * tolerance) CLOSE("logits", got, want, V, tolerance, widen_f32);
        }
        if (done > 20 && one_in(3)) break;
    }
}

/* decode_ahead is decode and draw_tokens, step after step. */
static void check_decode_ahead(void) {
    struct decoding *d = build_decoding();
    i64 V = d->model.V, rows = d->texts, steps = 1 + below(d->length - 1), *order = numbers(V);
    i64 *tokens = numbers(4 * rows), *again = numbers(4 * rows), *written = numbers(steps * rows);
    float temperature = one_in(3) ? 0.0f : 0.8f, top_p = one_in(2) ? 1.0f : 0.8f, *logits;
    float *drawn_by = floats(steps * rows), *chances = floats(V);
    struct reference_model *m = &d->model;
    logits = floats(rows * V);
    for (i64 r = 0; r < rows; r++)
        tokens[r] = below(V), tokens[rows + r] = r, tokens[2 * rows + r] = 0, tokens[3 * rows + r] = 1;
    memcpy(again, tokens, 4 * rows * sizeof(i64));
    for (i64 i = 0; i < steps * rows; i++) drawn_by[i] = (float)uniform();
    returned(decode_ahead(tokens, tokens + rows, tokens + 2 * rows, tokens + 3 * rows, d->sizes,
                          d->weights, d->experts, d->keys, d->values, d->bias, d->scratch,
                          d->chosen, d->gates, logits, drawn_by, chances, order, written, rows,
                          steps, (float)m->cap, (float)m->threshold, temperature, top_p,
                          d->threads), 0);
    for (i64 s = 0; s < steps; s++) {
        decode_rows(d, again, rows, logits, 0);
        returned(draw_tokens(logits, drawn_by + s * rows, again, chances, order, rows, V,
                             temperature, top_p, 1), 0);
        same("written", written + s * rows, again, rows);
        for (i64 r = 0; r < rows; r++) again[2 * rows + r]++;
    }
    same("tokens and positions", tokens, again, 4 * rows);
}
