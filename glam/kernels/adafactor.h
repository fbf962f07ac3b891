/* Adafactor as GLaM trained with it (paper, section 5.1; Shazeer & Stern, arXiv 1804.04235), in
 * float32 and in place: no first moment, second moments factored into rows and columns, updates
 * clipped and scaled by the RMS of the parameter. */

/* max(x, bound), but NaN where x is NaN: a bad gradient must show, not train on as a bound. */
static inline double fmax_nan(double x, double bound) { return x < bound ? bound : x; }

/* The factor of an update of `n` root_n: -lr * clip * max(RMS(p), eps_scale) / max(RMS(u), clip),
 * from the sums of squares of the parameter and of the update. */
static float step_size(double parameter_sq, double update_sq, i64 n, float lr, float eps_scale,
                       float clip) {
    double root_n = sqrt((double)n);
    double scale = fmax_nan(sqrt(parameter_sq), eps_scale * root_n);
    double norm = fmax_nan(sqrt(update_sq), clip * root_n);
    return (float)(-lr * clip * scale / norm);
}

/* One step of a matrix p [a, b] with gradient g [a, b]; rows [a] and columns [b] are its factored
 * second moments, `scratch` has a + CHUNKS * b floats. The gradient is read three times, the
 * parameter twice; the update is never stored. */
static void adafactor_matrix(float *p, const float *g, float *rows, float *columns, i64 a, i64 b,
                             float beta2, float lr, float eps_factor, float eps_scale, float clip,
                             float *scratch, int threads) {
    i64 chunk = (a + CHUNKS - 1) / CHUNKS;
    float *squares = scratch, *by_chunk = scratch + a; /* [a], [CHUNKS, b] */
    double parameter_sq = 0.0, update_sq = 0.0, rows_sum = 0.0, part[CHUNKS] = {0.0};
#pragma omp parallel for num_threads(threads) if (parallel : a * b > PARALLEL_FROM)
    for (i64 c = 0; c < CHUNKS; c++) {
        float *column = by_chunk + c * b;
        memset(column, 0, b * sizeof(float));
        for (i64 i = c * chunk; i < a && i < (c + 1) * chunk; i++) {
            const float *x = g + i * b, *w = p + i * b;
            float row = 0.0f, norm = 0.0f;
#pragma omp simd reduction(+ : row, norm)
            for (i64 j = 0; j < b; j++) {
                float square = x[j] * x[j];
                row += square;
                norm += w[j] * w[j];
                column[j] += square;
            }
            squares[i] = row;
            part[c] += norm;
        }
    }
    for (i64 c = 0; c < CHUNKS; c++) parameter_sq += part[c];
    for (i64 i = 0; i < a; i++) {
        rows[i] = beta2 * rows[i] + (1.0f - beta2) * (squares[i] / b + eps_factor);
        rows_sum += rows[i];
    }
    float *inverse = by_chunk; /* chunk 0: the sum of all chunks, then 1 / column, then its root */
    for (i64 c = 1; c < CHUNKS; c++)
#pragma omp simd
        for (i64 j = 0; j < b; j++) inverse[j] += by_chunk[c * b + j];
#pragma omp simd
    for (i64 j = 0; j < b; j++) {
        columns[j] = beta2 * columns[j] + (1.0f - beta2) * (inverse[j] / a + eps_factor);
        inverse[j] = 1.0f / columns[j];
    }
    /* The update is g * sqrt(factor * inverse). The two stay apart and the first is bounded: their
     * product exceeds float32 where a row of gradients is all zeros. */
    float mean = (float)(rows_sum / a), *factor = squares;
    for (i64 i = 0; i < a; i++) factor[i] = mean / rows[i] > 1e30f ? 1e30f : mean / rows[i];
#pragma omp parallel for num_threads(threads) if (parallel : a * b > PARALLEL_FROM)
    for (i64 c = 0; c < CHUNKS; c++) {
        part[c] = 0.0;
        for (i64 i = c * chunk; i < a && i < (c + 1) * chunk; i++) {
            const float *x = g + i * b;
            float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
            for (i64 j = 0; j < b; j++) dot += x[j] * x[j] * inverse[j];
            part[c] += (double)factor[i] * dot;
        }
    }
    for (i64 c = 0; c < CHUNKS; c++) update_sq += part[c];
    float size = step_size(parameter_sq, update_sq, a * b, lr, eps_scale, clip);
#pragma omp simd
    for (i64 j = 0; j < b; j++) inverse[j] = sqrtf(inverse[j]);
#pragma omp parallel for num_threads(threads) if (parallel : a * b > PARALLEL_FROM)
    for (i64 i = 0; i < a; i++) {
        const float *x = g + i * b;
        float *w = p + i * b, row_size = size * sqrtf(factor[i]);
#pragma omp simd
        for (i64 j = 0; j < b; j++) w[j] += row_size * (x[j] * inverse[j]);
    }
}

/* Adafactor step of a stack of matrices: p and g [matrices, a, b], rows [matrices, a], columns
 * [matrices, b]; each matrix is factored, clipped and scaled by itself. Returns 1 where there is
 * no memory for the scratch rows. Reference: reference_adafactor. */
int adafactor(float *p, const float *g, float *rows, float *columns, i64 matrices, i64 a, i64 b,
              float beta2, float lr, float eps_factor, float eps_scale, float clip, int threads) {
    int failed = 0;
#pragma omp parallel for num_threads(threads) \
    reduction(| : failed) if (parallel : matrices > 1 && matrices * a * b > PARALLEL_FROM)
    for (i64 e = 0; e < matrices; e++) {
        float *scratch = malloc((a + CHUNKS * b) * sizeof(float));
        if (!scratch) {
            failed = 1;
            continue;
        }
        i64 at = e * a * b;
        adafactor_matrix(p + at, g + at, rows + e * a, columns + e * b, a, b, beta2, lr, eps_factor,
                         eps_scale, clip, scratch, threads);
        free(scratch);
    }
    return failed;
}

/* Adafactor step of a vector: p, g and the unfactored second moments `squares` are [n].
 * Reference: reference_adafactor_vector. */
void adafactor_vector(float *restrict p, const float *restrict g, float *restrict squares, i64 n,
                      float beta2, float lr, float eps_factor, float eps_scale, float clip,
                      int threads) {
    (void)threads; /* vectors are short: one thread */
    float parameter_sq = 0.0f, update_sq = 0.0f;
#pragma omp simd reduction(+ : parameter_sq, update_sq)
    for (i64 i = 0; i < n; i++) {
        squares[i] = beta2 * squares[i] + (1.0f - beta2) * (g[i] * g[i] + eps_factor);
        parameter_sq += p[i] * p[i];
        update_sq += g[i] * g[i] / squares[i];
    }
    float size = step_size(parameter_sq, update_sq, n, lr, eps_scale, clip);
#pragma omp simd
    for (i64 i = 0; i < n; i++) p[i] += size * (g[i] / sqrtf(squares[i]));
}
