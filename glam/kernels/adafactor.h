/* Adafactor as GLaM trained with it (paper, section 5.1; Shazeer & Stern 2018), in float32 and in
 * place. */

/* Not fmax: what is no number stays so, and is seen, where a bound would train on. */
static inline double at_least(double x, double bound) { return x < bound ? bound : x; }

/* What an update is multiplied by, from its and the parameter's sums of squares. */
static float step_size(double of_parameter, double of_update, i64 n, float rate, float eps_scale,
                       float clip) {
    double numbers = sqrt((double)n);
    double scale = at_least(sqrt(of_parameter), eps_scale * numbers);
    double norm = at_least(sqrt(of_update), clip * numbers);
    return (float)(-rate * clip * scale / norm);
}

/* One matrix's step of Adafactor: `rows` and `columns` are its factored second moments. The
 * gradient is read three times, the parameter twice; nothing of their size is written but it. */
static void adafactor_matrix(float *p, const float *g, float *rows, float *columns, i64 a, i64 b,
                             float keep, float rate, float eps_factor, float eps_scale, float clip,
                             float *scratch, int threads) {
    i64 chunk = (a + CHUNKS - 1) / CHUNKS;
    float *squares = scratch, *by_chunk = scratch + a; /* [a], [CHUNKS, b] */
    double of_parameter = 0.0, of_update = 0.0, all_rows = 0.0, part[CHUNKS] = {0.0};
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
    for (i64 c = 0; c < CHUNKS; c++) of_parameter += part[c];
    for (i64 i = 0; i < a; i++) {
        rows[i] = keep * rows[i] + (1.0f - keep) * (squares[i] / b + eps_factor);
        all_rows += rows[i];
    }
    float *inverse = by_chunk; /* the first chunk becomes the sum of all, then 1 / column */
    for (i64 c = 1; c < CHUNKS; c++)
#pragma omp simd
        for (i64 j = 0; j < b; j++) inverse[j] += by_chunk[c * b + j];
#pragma omp simd
    for (i64 j = 0; j < b; j++) {
        columns[j] = keep * columns[j] + (1.0f - keep) * (inverse[j] / a + eps_factor);
        inverse[j] = 1.0f / columns[j];
    }
    /* Two factors, not their product, and the one bounded: both are beyond float32 where a row is
     * all zeros. */
    float mean = (float)(all_rows / a), *factor = squares;
    for (i64 i = 0; i < a; i++) factor[i] = mean / rows[i] > 1e30f ? 1e30f : mean / rows[i];
#pragma omp parallel for num_threads(threads) if (parallel : a * b > PARALLEL_FROM)
    for (i64 c = 0; c < CHUNKS; c++) {
        part[c] = 0.0;
        for (i64 i = c * chunk; i < a && i < (c + 1) * chunk; i++) {
            const float *x = g + i * b;
            float along = 0.0f;
#pragma omp simd reduction(+ : along)
            for (i64 j = 0; j < b; j++) along += x[j] * x[j] * inverse[j];
            part[c] += (double)factor[i] * along;
        }
    }
    for (i64 c = 0; c < CHUNKS; c++) of_update += part[c];
    float size = step_size(of_parameter, of_update, a * b, rate, eps_scale, clip);
#pragma omp simd
    for (i64 j = 0; j < b; j++) inverse[j] = sqrtf(inverse[j]);
#pragma omp parallel for num_threads(threads) if (parallel : a * b > PARALLEL_FROM)
    for (i64 i = 0; i < a; i++) {
        const float *x = g + i * b;
        float *w = p + i * b, along = size * sqrtf(factor[i]);
#pragma omp simd
        for (i64 j = 0; j < b; j++) w[j] += along * (x[j] * inverse[j]);
    }
}

/* Of `[matrices, a, b]`. Returns 0, or 1 where there is no memory for a few rows. */
int adafactor(float *p, const float *g, float *rows, float *columns, i64 matrices, i64 a, i64 b,
              float keep, float rate, float eps_factor, float eps_scale, float clip, int threads) {
    int failed = 0;
#pragma omp parallel for num_threads(threads) reduction(| : failed) \
    if (parallel : matrices > 1 && matrices * a * b > PARALLEL_FROM)
    for (i64 e = 0; e < matrices; e++) {
        float *scratch = malloc((a + CHUNKS * b) * sizeof(float));
        if (!scratch) {
            failed = 1;
            continue;
        }
        i64 at = e * a * b;
        adafactor_matrix(p + at, g + at, rows + e * a, columns + e * b, a, b, keep, rate,
                         eps_factor, eps_scale, clip, scratch, threads);
        free(scratch);
    }
    return failed;
}

/* The same of `n` numbers that are no matrix, whose second moments, `squares`, are not factored. */
void adafactor_vector(float *restrict p, const float *restrict g, float *restrict squares, i64 n,
                      float keep, float rate, float eps_factor, float eps_scale, float clip,
                      int threads) {
    (void)threads; /* few numbers */
    float of_parameter = 0.0f, of_update = 0.0f;
#pragma omp simd reduction(+ : of_parameter, of_update)
    for (i64 i = 0; i < n; i++) {
        squares[i] = keep * squares[i] + (1.0f - keep) * (g[i] * g[i] + eps_factor);
        of_parameter += p[i] * p[i];
        of_update += g[i] * g[i] / squares[i];
    }
    float size = step_size(of_parameter, of_update, n, rate, eps_scale, clip);
#pragma omp simd
    for (i64 i = 0; i < n; i++) p[i] += size * (g[i] / sqrtf(squares[i]));
}
