/* Checks of the kernels of products in float32 alone: feed-forwards and linear maps of any size. */

static void feed_forward(int backward) {
    i64 rows = one_in(5) ? 400 + below(800) : size(90), M = size(90), H = size(90);
    i64 kept = rows * ((H + TILE - 1) / TILE * TILE), gated = one_in(2);
    double *x, *of_d, *gate, *in, *out, *of_y = wide(rows * M), *of_x = wide(rows * M);
    double *of_gate = wide(M * H), *of_in = wide(M * H), *of_out = wide(M * H);
    float *x_RM = random_f32(&x, rows * M, 1.0), *d_y = random_f32(&of_d, rows * M, 1.0);
    float *w_gate = random_f32(&gate, M * H, 0.2), *w_in = random_f32(&in, M * H, 0.2);
    float *w_out = random_f32(&out, H * M, 0.2), *y = floats(rows * M), *d_x = floats(rows * M);
    float *kept_gate = floats(kept), *kept_in = floats(kept);
    float *d_gate = floats(M * H), *d_in = floats(M * H), *d_out = floats(M * H);
    if (!gated) w_gate = kept_gate = d_gate = NULL;
    SHAPES("rows %lld, M %lld, H %lld, gated %lld", (long long)rows, (long long)M, (long long)H,
           (long long)gated);
    returned(feed_forward_f32(x_RM, w_gate, w_in, w_out, kept_gate, kept_in, y, rows, M, H,
                              threads()), 0);
    reference_feed_forward(x, of_d, gated ? gate : NULL, in, out, of_y, of_x, of_gate, of_in,
                           of_out, rows, M, H);
    close_to("y", y, of_y, rows * M);
    if (!backward) return;
    returned(feed_forward_backward_f32(x_RM, d_y, w_gate, w_in, w_out, kept_gate, kept_in, d_x,
                                       d_gate, d_in, d_out, rows, M, H, threads()), 0);
    close_to("d_x", d_x, of_x, rows * M);
    if (gated) close_to("d_w_gate", d_gate, of_gate, M * H);
    close_to("d_w_in", d_in, of_in, M * H);
    close_to("d_w_out", d_out, of_out, M * H);
}

static void check_feed_forward_f32(void) { feed_forward(0); }
static void check_feed_forward_backward_f32(void) { feed_forward(1); }

static void linear(int backward) {
    i64 rows = one_in(5) ? 1000 + below(300) : size(90), K = one_in(5) ? 250 + below(300) : size(90);
    i64 N = size(90), add = one_in(2);
    double *x, *by, *of_d, *before, *turned = wide(rows * (K > N ? K : N) + K * N);
    double *of_y = wide(rows * N), *of_x = wide(rows * K), *of_w = wide(K * N);
    float *x_RK = random_f32(&x, rows * K, 1.0), *w = random_f32(&by, K * N, 0.2);
    float *d_y = random_f32(&of_d, rows * N, 1.0), *d_w = random_f32(&before, K * N, 1.0);
    float *y = floats(rows * N), *d_x = floats(rows * K);
    SHAPES("rows %lld, K %lld, N %lld, add %lld", (long long)rows, (long long)K, (long long)N,
           (long long)add);
    if (!backward) {
        returned(linear_f32(x_RK, w, y, rows, K, N, threads()), 0);
        reference_product(x, by, of_y, rows, K, N);
        close_to("y", y, of_y, rows * N);
        return;
    }
    returned(linear_backward_f32(x_RK, d_y, w, d_x, d_w, rows, K, N, (int)add, threads()), 0);
    reference_transpose(by, turned, K, N);
    reference_product(of_d, turned, of_x, rows, N, K);
    reference_transpose(x, turned, rows, K);
    reference_product(turned, of_d, of_w, K, rows, N);
    if (add)
        for (i64 i = 0; i < K * N; i++) of_w[i] += before[i];
    close_to("d_x", d_x, of_x, rows * K);
    close_to("d_w", d_w, of_w, K * N);
}

static void check_linear_f32(void) { linear(0); }
static void check_linear_backward_f32(void) { linear(1); }
