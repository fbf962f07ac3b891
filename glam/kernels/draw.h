/* Draws the next token of a text from logits, for decoding. */

#define BLOCK 64 /* elements among which one is looked for at once */
#define FEW 16   /* tokens that are put in order at once */
#define BINS 256 /* of chances, eight to an octave, the likeliest first */

/* Bin of a chance in [0, 1]; those below 2^-31 share the last. */
static inline int bin_of(float chance) {
    int below_one = (int)(bits_of_float(1.0f) >> 20) - (int)(bits_of_float(chance) >> 20);
    return below_one < BINS ? below_one : BINS - 1;
}

/* The sums of chances by bin into mass_of_bin [BINS]: four of each bin, since a sum waits for the
 * one before it. bins [V] is workspace. */
static void fill_bins(const float *chances, i64 V, double *mass_of_bin, uint8_t *bins) {
    double mass[4][BINS + 8] = {{0}}; /* rows that differ in the lowest bits of their addresses */
    for (i64 v = 0; v < V; v++) bins[v] = bin_of(chances[v]);
    i64 v = 0;
    for (; v + 4 <= V; v += 4)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) mass[k][bins[v + k]] += chances[v + k];
    for (; v < V; v++) mass[0][bins[v]] += chances[v];
    for (i64 b = 0; b < BINS; b++)
        mass_of_bin[b] = (mass[0][b] + mass[1][b]) + (mass[2][b] + mass[3][b]);
}

/* The first token of the largest of finite logits [V]. */
static i64 likeliest(const float *logits, i64 V) {
    float row_max = -INFINITY;
#pragma omp simd reduction(max : row_max)
    for (i64 v = 0; v < V; v++) row_max = fmax_(logits[v], row_max);
    for (i64 from = 0;; from += BLOCK) {
        i64 to = from + BLOCK < V ? from + BLOCK : V;
        int is_here = 0;
#pragma omp simd reduction(| : is_here)
        for (i64 v = from; v < to; v++) is_here |= logits[v] == row_max;
        for (i64 v = from; is_here && v < to; v++)
            if (logits[v] == row_max) return v;
    }
}

/* The tokens whose chance is in a bin, in their order, into `tokens`; returns how many. */
static i64 tokens_in(const float *chances, i64 V, i64 bin, i64 *tokens) {
    i64 count = 0;
    for (i64 from = 0; from < V; from += BLOCK) {
        i64 to = from + BLOCK < V ? from + BLOCK : V;
        int is_here = 0;
#pragma omp simd reduction(| : is_here)
        for (i64 v = from; v < to; v++) is_here |= bin_of(chances[v]) == bin;
        for (i64 v = from; is_here && v < to; v++) { /* no branch, which could not be foreseen */
            tokens[count] = v;
            count += bin_of(chances[v]) == bin;
        }
    }
    return count;
}

/* Puts tokens in order, the likeliest first, of equals the first. */
static void sort_tokens(const float *chances, i64 count, i64 *tokens) {
    for (i64 gap = count / 2; gap > 0; gap /= 2)
        for (i64 i = gap; i < count; i++) {
            i64 v = tokens[i], j = i;
            for (; j >= gap; j -= gap) {
                i64 w = tokens[j - gap];
                if (chances[w] > chances[v] || (chances[w] == chances[v] && w < v)) break;
                tokens[j] = w;
            }
            tokens[j] = v;
        }
}

/* The first bin at which `sum` and the masses up to it exceed `share` or, where `reach`, reach it:
 * the last that is not empty at the latest. Adds the masses before it to `sum`. */
static i64 crossing(const double *mass_of_bin, double share, int reach, double *sum) {
    i64 last = BINS - 1, bin = 0;
    while (last > 0 && mass_of_bin[last] == 0.0) last--;
    for (; bin < last; bin++) {
        double next = *sum + mass_of_bin[bin];
        if (reach ? next >= share : next > share) break;
        *sum = next;
    }
    return bin;
}

/* Bin within a bin, but the last: by the eight bits of a chance that follow. */
static inline int finer_bin(float chance) { return 255 - (bits_of_float(chance) >> 12 & 255); }

/* The first token at which the sum of chances, the likeliest first, exceeds `share` or, where
 * `reach`, reaches it; in `mass` that sum. mass_of_bin [BINS]; tokens [V] is workspace. */
static i64 token_at(const float *chances, const double *mass_of_bin, i64 V, double share, int reach,
                    i64 *tokens, double *mass) {
    i64 token = 0;
    double sum = 0.0;
    i64 bin = crossing(mass_of_bin, share, reach, &sum), count = tokens_in(chances, V, bin, tokens);
    if (count > FEW && bin < BINS - 1) {
        double finer[BINS] = {0};
        for (i64 i = 0; i < count; i++) finer[finer_bin(chances[tokens[i]])] += chances[tokens[i]];
        i64 within = crossing(finer, share, reach, &sum), all = count;
        count = 0;
        for (i64 i = 0; i < all; i++)
            if (finer_bin(chances[tokens[i]]) == within) tokens[count++] = tokens[i];
    }
    sort_tokens(chances, count, tokens);
    for (i64 i = 0; i < count && (reach ? sum < share : sum <= share); i++)
        if (chances[tokens[i]] > 0.0f) sum += chances[token = tokens[i]];
    *mass = sum;
    return token;
}

/* Draws a token for each row of logits [rows, V] into tokens [rows]: the likeliest at temperature
 * 0, else by its number in [0, 1) from the nucleus: the fewest likeliest tokens, the first of
 * equals before the others, whose probabilities reach `top_p`. chances [V] and order [V] are
 * workspace. Returns 1 where a logit is NaN or infinite: nothing can be drawn then.
 * Reference: reference_draw_token. */
int draw_tokens(const float *logits, const float *numbers, i64 *tokens, float *chances, i64 *order,
                i64 rows, i64 V, float temperature, float top_p, int threads) {
    (void)threads; /* the work of microseconds */
    int useless = 0;
#pragma omp simd reduction(| : useless)
    for (i64 i = 0; i < rows * V; i++) useless |= !(fabsf(logits[i]) <= 3e38f);
    if (useless) return 1;
    for (i64 r = 0; r < rows; r++) {
        const float *row = logits + r * V;
        tokens[r] = likeliest(row, V);
        if (temperature == 0.0f) continue;
        double mass_of_bin[BINS], total = 0.0, mass;
        float row_max = row[tokens[r]], inverse = 1.0f / temperature;
#pragma omp simd
        for (i64 v = 0; v < V; v++) chances[v] = exp_((row[v] - row_max) * inverse);
        fill_bins(chances, V, mass_of_bin, (uint8_t *)order);
        for (i64 b = 0; b < BINS; b++) total += mass_of_bin[b];
        if (top_p < 1.0f) token_at(chances, mass_of_bin, V, top_p * total, 1, order, &mass);
        else mass = total;
        tokens[r] = token_at(chances, mass_of_bin, V, numbers[r] * mass, 0, order, &mass);
    }
    return 0;
}
