/* Holds every kernel of kernels.c against its reference (glam/kernels/reference.h) with random shapes:
 * `check ROUNDS SEED [NAME …]`. It is compiled and run by `make check-c`, which says more.
 *
 * One line for each kernel that is not as its reference, and one at the end; status 1 if there was
 * one. */
#include "check.h"

#define T float
#define OF(name) name##_f32
#define TOLERANCE 3e-5
#include "check_typed.inc"
#include "check_products.inc"
#undef T
#undef OF
#undef TOLERANCE

#define T bf16
#define OF(name) name##_bf16
#define TOLERANCE 2.5e-2
#include "check_typed.inc"
#include "check_products.inc"

#include "check_decode.h"

static void check_add_narrow(void) {
    i64 n = elements();
    double *sum, *term;
    float *total = random_f32(&sum, n, 1.0);
    bf16 *product = random_bf16(&term, n, 1.0);
    SHAPES("n %lld", (long long)n);
    add_narrow(total, product, n, threads());
    reference_add_narrow(sum, term, n);
    close_to("total", total, sum, n);
}

static void check_sort_by_expert(void) {
    i64 tokens = size(200), top_k = size(4), E = size(20), n = tokens * top_k, skew = below(3);
    i64 *experts = numbers(n), *next = numbers(E), *row = numbers(n), rows = 0;
    for (i64 i = 0; i < n; i++) experts[i] = skew == 0 ? below(E) : skew == 1 ? 0 : below(1 + E / 2);
    for (i64 e = 0; e < E; e++) {
        next[e] = rows;
        for (i64 i = 0; i < n; i++) rows += experts[i] == e;
        rows += below(4); /* padding */
    }
    i64 *token = memset(numbers(rows), 0, rows * sizeof(i64));
    i64 *of_next = memcpy(numbers(E), next, E * sizeof(i64)), *of_row = numbers(n);
    i64 *of_token = memset(numbers(rows), 0, rows * sizeof(i64));
    SHAPES("tokens %lld, top_k %lld, E %lld, skew %lld", (long long)tokens, (long long)top_k,
           (long long)E, (long long)skew);
    i64 wrong = below(n), right = experts[wrong], *unused = memcpy(numbers(E), next, E * sizeof(i64));
    experts[wrong] = one_in(2) ? E : -1;
    returned(sort_by_expert(experts, unused, row, token, tokens, top_k, E, rows, threads()), OUTSIDE);
    experts[wrong] = right;
    returned(sort_by_expert(experts, next, row, token, tokens, top_k, E, rows, threads()), 0);
    reference_sort_by_expert(experts, of_next, of_row, of_token, tokens, top_k, E);
    same("next", next, of_next, E);
    same("row_of_choice", row, of_row, n);
    same("token_of_row", token, of_token, rows);
}

static void check_outside(void) {
    i64 n = size(90), multiple = one_in(2) ? size(16) : 0, limit = 1 + below(300), *x = numbers(n);
    for (i64 i = 0; i < n; i++) x[i] = below(limit);
    for (i64 i = 0; multiple && i < n; i++) x[i] = i * multiple; /* may go beyond the limit */
    if (one_in(2)) x[below(n)] = below(limit + 3) - 1;
    SHAPES("n %lld, limit %lld, multiple %lld", (long long)n, (long long)limit, (long long)multiple);
    returned(outside(x, n, limit, multiple, threads()), reference_outside(x, n, limit, multiple));
}

/* Logits without ties, but where `equal` many are. */
static float *logits_of(double **same_wide, i64 count, int equal) {
    float *logits = random_f32(same_wide, count, 2.0);
    for (i64 i = 0; equal && i < count; i++) logits[i] = (*same_wide)[i] = rint((*same_wide)[i]);
    return logits;
}

static void check_route(void) {
    i64 tokens = one_in(5) ? 3000 : size(90), E = size(70), K = 1 + below(E < 5 ? E : 5);
    i64 *experts = numbers(tokens * K), *want = numbers(tokens * K);
    int normalize = one_in(2), equal = one_in(2), biased = one_in(2);
    double *x, *b, *of_gates = wide(tokens * K), *p = wide(tokens * E);
    float *logits = logits_of(&x, tokens * E, equal), *gates = floats(tokens * K);
    float *probabilities = floats(tokens * E), *bias = logits_of(&b, E, 1); /* whole: exact sums */
    if (!equal) memset(bias, 0, E * sizeof(float)), memset(b, 0, E * sizeof(double));
    SHAPES("tokens %lld, E %lld, K %lld, normalize %d, equal %d, biased %d", (long long)tokens,
           (long long)E, (long long)K, normalize, equal, biased);
    route(logits, biased ? bias : NULL, experts, gates, probabilities, tokens, E, K, normalize,
          threads());
    reference_route(x, biased ? b : NULL, want, of_gates, p, tokens, E, K, normalize);
    same("experts", experts, want, tokens * K);
    close_to("gates", gates, of_gates, tokens * K);
    close_to("probabilities", probabilities, p, tokens * E);
}

static void check_route_backward(void) {
    i64 tokens = one_in(5) ? 3000 : size(90), E = size(70), K = 1 + below(E < 5 ? E : 5);
    i64 *experts = numbers(tokens * K), n = tokens * E;
    int normalize = one_in(2);
    double *x, *g = wide(tokens * K), *p = wide(n), *dg, *dp, *want = wide(n);
    float *d_gates = random_f32(&dg, tokens * K, 1.0), *d_probabilities = random_f32(&dp, n, 1.0);
    float *gates = floats(tokens * K), *probabilities = floats(n), *d_logits = floats(n);
    logits_of(&x, n, 0);
    reference_route(x, NULL, experts, g, p, tokens, E, K, normalize);
    for (i64 i = 0; i < tokens * K; i++) gates[i] = (float)g[i];
    for (i64 i = 0; i < n; i++) probabilities[i] = (float)p[i];
    SHAPES("tokens %lld, E %lld, K %lld, normalize %d", (long long)tokens, (long long)E,
           (long long)K, normalize);
    i64 wrong = below(tokens * K), right = experts[wrong];
    experts[wrong] = one_in(2) ? E : -1;
#define ROUTE_BACKWARD                                                                          \
    route_backward(d_gates, d_probabilities, experts, gates, probabilities, d_logits, tokens, E, \
                   K, normalize, threads())
    returned(ROUTE_BACKWARD, OUTSIDE);
    experts[wrong] = right;
    returned(ROUTE_BACKWARD, 0);
    reference_route_backward(dg, dp, experts, g, p, want, tokens, E, K, normalize);
    close_to("d_logits", d_logits, want, n);
}

#define STEP 0.9f, 0.01f, 1e-30f, 1e-3f, 1.0f /* beta2, lr, eps_factor, eps_scale, clip */

static double *positive(float *x, i64 n) {
    double *same_wide = wide(n);
    for (i64 i = 0; i < n; i++) same_wide[i] = x[i] = (float)(0.1 + uniform());
    return same_wide;
}

static void check_adafactor(void) {
    i64 E = size(4), a = size(90), b = one_in(5) ? 900 : size(130), n = a * b;
    double *p, *g;
    float *parameter = random_f32(&p, E * n, 1.0), *grad = random_f32(&g, E * n, 1.0);
    float *rows = floats(E * a), *columns = floats(E * b);
    double *of_rows = positive(rows, E * a), *of_columns = positive(columns, E * b);
    SHAPES("E %lld, a %lld, b %lld", (long long)E, (long long)a, (long long)b);
    returned(adafactor(parameter, grad, rows, columns, E, a, b, STEP, threads()), 0);
    for (i64 e = 0; e < E; e++)
        reference_adafactor(p + e * n, g + e * n, of_rows + e * a, of_columns + e * b, a, b, STEP);
    close_to("p", parameter, p, E * n);
    close_to("rows", rows, of_rows, E * a);
    close_to("columns", columns, of_columns, E * b);
}

static void check_adafactor_vector(void) {
    i64 n = size(300);
    double *p, *g;
    float *parameter = random_f32(&p, n, 1.0), *grad = random_f32(&g, n, 1.0), *squares = floats(n);
    double *of_squares = positive(squares, n);
    SHAPES("n %lld", (long long)n);
    adafactor_vector(parameter, grad, squares, n, STEP, threads());
    reference_adafactor_vector(p, g, of_squares, n, STEP);
    close_to("p", parameter, p, n);
    close_to("squares", squares, of_squares, n);
}

/* Whether some nudge of both shares, by what float32 rounds, makes the reference draw it. */
static int can_be_drawn(i64 token, const double *logits, i64 V, double number, double temperature,
                        double top_p) {
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++)
            if (token == reference_draw_token(logits, V, number + i * 1e-5, temperature,
                                              top_p < 1.0 ? top_p + j * 1e-5 : top_p))
                return 1;
    return 0;
}

static void check_draw_tokens(void) {
    i64 rows = size(5), V = one_in(3) ? 2000 : size(130), *tokens = numbers(rows);
    i64 *order = numbers(V), at = below(rows * V);
    float temperature = one_in(4) ? 0.0f : one_in(2) ? 0.7f : 1.5f, *chances = floats(V);
    float top_p = one_in(3) ? 1.0f : (float)(0.05 + 0.9 * uniform());
    double *x;
    float *logits = logits_of(&x, rows * V, one_in(3)), *drawn_by = floats(rows);
    for (i64 r = 0; r < rows; r++) drawn_by[r] = (float)uniform() * 0.999f;
    SHAPES("rows %lld, V %lld, temperature %g, top_p %g", (long long)rows, (long long)V, temperature,
           top_p);
    returned(draw_tokens(logits, drawn_by, tokens, chances, order, rows, V, temperature, top_p,
                         threads()), 0);
    for (i64 r = 0; r < rows; r++)
        if (!can_be_drawn(tokens[r], x + r * V, V, drawn_by[r], temperature, top_p))
            fail("tokens", r, (double)tokens[r],
                 (double)reference_draw_token(x + r * V, V, drawn_by[r], temperature, top_p));
    logits[at] = one_in(2) ? NAN : INFINITY;
    returned(draw_tokens(logits, drawn_by, tokens, chances, order, rows, V, temperature, top_p,
                         threads()), 1);
}

#define CHECK(kernel) {#kernel, (void (*)(void))kernel, check_##kernel}
#define CHECKS(kernel) CHECK(kernel##_f32), CHECK(kernel##_bf16)
static const struct {
    const char *kernel;
    void (*address)(void), (*check)(void);
} checks[] = {
    CHECKS(gelu), CHECKS(geglu), CHECKS(gelu_backward), CHECKS(geglu_backward),
    CHECKS(gated_gelu_backward), CHECKS(sum_of_choices), CHECKS(rms_norm),
    CHECKS(rms_norm_backward), CHECKS(attention_weights), CHECKS(attention_weights_backward),
    CHECKS(cross_entropy), CHECKS(pack_weights), CHECKS(attention_forward),
    CHECKS(attention_backward), CHECKS(experts_forward), CHECKS(experts_backward),
    CHECKS(output_loss), CHECKS(feed_forward), CHECKS(feed_forward_backward), CHECKS(linear),
    CHECKS(linear_backward), CHECK(add_narrow), CHECK(sort_by_expert), CHECK(route),
    CHECK(route_backward), CHECK(adafactor), CHECK(adafactor_vector), CHECK(draw_tokens),
    CHECK(decode), CHECK(decode_ahead), CHECK(outside),
};

static int is_chosen(const char *kernel, int count, char **names) {
    for (int i = 0; i < count; i++)
        if (!strcmp(kernel, names[i])) return 1;
    return count == 0;
}

int main(int argc, char **argv) {
    i64 rounds = argc > 1 ? atoll(argv[1]) : 20, seed = argc > 2 ? atoll(argv[2]) : 0, wrong = 0;
    i64 checked = 0;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        name = checks[i].kernel, failures = 0;
        if (!is_chosen(name, argc - 3, argv + 3)) continue;
        if (!checks[i].address) {
            printf("not compiled: %s\n", name);
            continue;
        }
        for (i64 round = 0; round < rounds && !failures; round++) {
            state = (uint64_t)(seed * 1000003 + round) * 0x2545F4914F6CDD1Dull + i;
            checks[i].check();
            release();
        }
        checked++, wrong += failures > 0;
        printf("%s: %s\n", failures ? "not as its reference" : "checked", name);
        fflush(stdout);
    }
    printf("%lld kernels, %lld rounds each: %lld not as their references\n", (long long)checked,
           (long long)rounds, (long long)wrong);
    return wrong > 0;
}
