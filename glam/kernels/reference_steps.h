/* References of the optimizer's step and of drawing a token; see reference.h. */

/* The update of n parameters, -lr clip max(RMS(p), eps_scale) / max(RMS(u), clip) times u. */
static void reference_apply(double *p, const double *u, i64 n, double lr, double eps_scale,
                            double clip) {
    double parameter_sq = 0.0, update_sq = 0.0;
    for (i64 i = 0; i < n; i++) parameter_sq += p[i] * p[i], update_sq += u[i] * u[i];
    double scale = fmax(sqrt(parameter_sq / n), eps_scale), norm = fmax(sqrt(update_sq / n), clip);
    for (i64 i = 0; i < n; i++) p[i] -= lr * clip * scale / norm * u[i];
}

/* Adafactor's step of one matrix p [a, b] with gradient g (arXiv 1804.04235, algorithm 4): rows [a]
 * and columns [b] are running means, with weight beta2, of the means of g^2 + eps_factor; the update
 * is g / sqrt(rows columns / mean(rows)). */
static void reference_adafactor(double *p, const double *g, double *rows, double *columns, i64 a,
                                i64 b, double beta2, double lr, double eps_factor, double eps_scale,
                                double clip) {
    double mean = 0.0, *u = malloc(a * b * sizeof(double));
    for (i64 i = 0; i < a; i++) rows[i] *= beta2;
    for (i64 j = 0; j < b; j++) columns[j] *= beta2;
    for (i64 i = 0; i < a; i++)
        for (i64 j = 0; j < b; j++) {
            double square = (1.0 - beta2) * (g[i * b + j] * g[i * b + j] + eps_factor);
            rows[i] += square / b;
            columns[j] += square / a;
        }
    for (i64 i = 0; i < a; i++) mean += rows[i] / a;
    for (i64 i = 0; i < a; i++)
        for (i64 j = 0; j < b; j++) u[i * b + j] = g[i * b + j] * sqrt(mean / rows[i] / columns[j]);
    reference_apply(p, u, a * b, lr, eps_scale, clip);
    free(u);
}

/* Adafactor's step of a vector p [n]: its second moments `squares` [n] are not factored. */
static void reference_adafactor_vector(double *p, const double *g, double *squares, i64 n,
                                       double beta2, double lr, double eps_factor, double eps_scale,
                                       double clip) {
    double *u = malloc(n * sizeof(double));
    for (i64 i = 0; i < n; i++) {
        squares[i] = beta2 * squares[i] + (1.0 - beta2) * (g[i] * g[i] + eps_factor);
        u[i] = g[i] / sqrt(squares[i]);
    }
    reference_apply(p, u, n, lr, eps_scale, clip);
    free(u);
}

/* The token that one row of logits [V] gives: the likeliest at temperature 0; else, with all tokens in
 * the order of their probabilities, the first of equals before the others, those up to the first at
 * which the sum reaches `top_p` share `number` in [0, 1) among them by their probabilities. */
static i64 reference_draw_token(const double *logits, i64 V, double number, double temperature,
                                double top_p) {
    i64 *order = calloc(V, sizeof(i64)), nucleus = 0, drawn = 0;
    double total = 0.0, sum = 0.0, kept = 0.0;
    for (i64 v = 0; v < V; v++) { /* by insertion */
        i64 at = v;
        for (; at > 0 && logits[order[at - 1]] < logits[v]; at--) order[at] = order[at - 1];
        order[at] = v;
    }
    i64 likeliest = order[0];
    double largest = logits[likeliest];
    if (temperature == 0.0) return free(order), likeliest;
    for (i64 v = 0; v < V; v++) total += exp((logits[v] - largest) / temperature);
    while (nucleus < V && kept < top_p * total)
        kept += exp((logits[order[nucleus++]] - largest) / temperature);
    for (; drawn < nucleus; drawn++)
        if ((sum += exp((logits[order[drawn]] - largest) / temperature)) > number * kept) break;
    i64 token = order[drawn < nucleus ? drawn : nucleus - 1];
    return free(order), token;
}
