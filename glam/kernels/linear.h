/* Linear maps in float32, and their gradients. */

/* y [rows, N] = x [rows, K] w [K, N]. Returns 1 where there is no memory.
 * Reference: reference_product. */
int linear_f32(const float *x, const float *w, float *y, i64 rows, i64 K, i64 N, int threads) {
    struct product_space *spaces = alloc_spaces(threads);
    if (!spaces) return 1;
#pragma omp parallel for num_threads(threads)
    for (i64 t = 0; t < threads; t++) {
        i64 from = rows * t / threads, to = rows * (t + 1) / threads;
        struct product p = {.a = x + from * K,
                            .b = w,
                            .c = y + from * N,
                            .lda = K,
                            .ldb = N,
                            .ldc = N,
                            .n = to - from,
                            .N = N,
                            .K = K};
        multiply(&p, spaces + t);
    }
    free(spaces);
    return 0;
}

/* From d_y [rows, N]: d_x [rows, K] and d_w [K, N], which is added to where `add`. Returns 1 where
 * there is no memory. Reference: reference_product of the transposes. */
int linear_backward_f32(const float *x, const float *d_y, const float *w, float *d_x, float *d_w,
                        i64 rows, i64 K, i64 N, int add, int threads) {
    struct product_space *spaces = alloc_spaces(threads);
    if (!spaces) return 1;
#pragma omp parallel for num_threads(threads)
    for (i64 t = 0; t < threads; t++) {
        i64 from = rows * t / threads, to = rows * (t + 1) / threads;
        struct product p = {.a = d_y + from * N,
                            .b = w,
                            .c = d_x + from * K,
                            .lda = N,
                            .ldb = N,
                            .ldc = K,
                            .n = to - from,
                            .N = K,
                            .K = N,
                            .transposed = 1};
        struct gradient g = {.a = x,
                             .b = d_y,
                             .c = d_w,
                             .lda = K,
                             .ldb = N,
                             .ldc = N,
                             .n = K,
                             .N = N,
                             .K = rows,
                             .add = add};
        multiply(&p, spaces + t);
        multiply_gradient(&g, t, threads, spaces + t);
    }
    free(spaces);
    return 0;
}
