/* Small experts, whole: an expert's rows are gathered, multiplied, and given back while they are in
 * the cache. `first_row` [E + 1] is where each expert's rows begin, as many as a multiple of STEP;
 * rows that no choice fills read some token, and their gate is 0. Weights and their gradients are in
 * float32 where `wide`, else in bfloat16. */
#define AT_ONCE 128 /* rows on their way through both products */

/* Buffers of one thread, for `rows` of an expert. */
struct room {
    bf16 *x, *d_y, *hidden, *d, *w_in, *w_out, *across, *down;
    float *product, *turned;
};

/* Returns what to free, NULL where there is no memory. */
static char *make_room(struct room *room, i64 rows, i64 M, i64 H) {
    i64 wide = M > H ? M : H;
    i64 bytes = 2 * (2 * rows * (M + H) + 2 * M * H + 2 * rows * wide) +
                4 * (AT_ONCE * (wide + ASIDE) + 2 * M * H);
    char *all = aligned_alloc(64, (bytes + 10 * 64 + 63) / 64 * 64), *at = all;
    if (!all) return NULL;
    room->x = carve(&at, 2 * rows * M);
    room->d_y = carve(&at, 2 * rows * M);
    room->hidden = carve(&at, 2 * rows * H);
    room->d = carve(&at, 2 * rows * H);
    room->w_in = carve(&at, 2 * M * H);
    room->w_out = carve(&at, 2 * M * H);
    room->across = carve(&at, 2 * rows * wide);
    room->down = carve(&at, 2 * rows * wide);
    room->product = carve(&at, 4 * (AT_ONCE * (wide + ASIDE) + M * H));
    room->turned = carve(&at, 4 * M * H);
    return all;
}

static void gather(const bf16 *x, const i64 *tokens, bf16 *out, i64 rows, i64 M) {
    for (i64 r = 0; r < rows; r++) memcpy(out + r * M, x + tokens[r] * M, M * sizeof(bf16));
}

/* An expert's part of a weight or a gradient. */
static void *part(const void *stack, i64 elements, int wide) {
    return (char *)stack + elements * (wide ? sizeof(float) : sizeof(bf16));
}

/* Panels of a weight [K, N], or of its transpose, narrowed; `between` has room for it. */
static void panels_of_weight(const void *w, bf16 *out, bf16 *between, i64 K, i64 N, int wide) {
    if (wide) narrow_row(w, between, K * N);
    panels_bf16(wide ? between : w, out, K, N);
}

static void panels_across_weight(const void *w, bf16 *out, bf16 *between, i64 N, i64 K, int wide) {
    if (wide) narrow_row(w, between, N * K);
    panels_across_bf16(wide ? between : w, out, N, K);
}

/* a [n, K] times the panels of b, whose product has ASIDE between its rows until it is narrowed. */
static void multiply_narrow(struct room *room, const bf16 *a, const bf16 *b, bf16 *out, i64 n,
                            i64 N, i64 K) {
    multiply_bf16(a, K, b, STEP * K, room->product, N + ASIDE, n, N, K, 0);
    for (i64 r = 0; r < n; r++) narrow_row(room->product + r * (N + ASIDE), out + r * N, N);
}

static i64 most_rows(const i64 *first_row, i64 E) {
    i64 most = 0;
    for (i64 e = 0; e < E; e++)
        if (first_row[e + 1] - first_row[e] > most) most = first_row[e + 1] - first_row[e];
    return most;
}

static void expert_forward(struct room *room, bf16 *before, bf16 *y, i64 rows, i64 M, i64 H) {
    for (i64 r = 0; r < rows; r += AT_ONCE) {
        i64 n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        multiply_narrow(room, room->x + r * M, room->w_in, before + r * H, n, H, M);
        gelu_bf16(before + r * H, room->hidden, n * H, 1);
        multiply_narrow(room, room->hidden, room->w_out, y + r * M, n, M, H);
    }
}

/* `before` and `y` are of all rows, [.., H] and [.., M]. Returns 1 where there is no memory. */
int experts_forward(const bf16 *x, const void *w_in, const void *w_out, const i64 *first_row,
                    const i64 *token_of_row, bf16 *before, bf16 *y, i64 E, i64 M, i64 H, int wide,
                    int threads) {
    i64 most = most_rows(first_row, E);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct room room;
        char *all = make_room(&room, most, M, H);
        failed = !all;
        begin_products();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++) {
            i64 first = first_row[e], rows = first_row[e + 1] - first;
            if (!all || !rows) continue;
            gather(x, token_of_row + first, room.x, rows, M);
            bf16 *between = (bf16 *)room.product;
            panels_of_weight(part(w_in, e * M * H, wide), room.w_in, between, M, H, wide);
            panels_of_weight(part(w_out, e * M * H, wide), room.w_out, between, H, M, wide);
            expert_forward(&room, before + first * H, y + first * M, rows, M, H);
        }
        end_products();
        free(all);
    }
    return failed;
}

/* The rows' own gradients, and what those of the weights are made of. */
static void expert_backward_rows(struct room *room, const bf16 *before, const float *gates,
                                 bf16 *d_rows, float *d_gates, i64 rows, i64 M, i64 H) {
    for (i64 r = 0; r < rows; r += AT_ONCE) {
        i64 n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        bf16 *d = room->d + r * H;
        multiply_narrow(room, room->d_y + r * M, room->w_out, d, n, H, M);
        gated_gelu_backward_bf16(before + r * H, gates + r, d, room->hidden + r * H, d_gates + r, n,
                                 H, 1);
        multiply_narrow(room, d, room->w_in, d_rows + r * M, n, M, H);
    }
}

/* d_w [M, H] = rows [n, M] transposed, times grad [n, H]. */
static void weight_gradient(struct room *room, const bf16 *rows, const bf16 *grad, float *d_w,
                            i64 n, i64 M, i64 H) {
    turn_bf16(rows, room->across, n, M, room->down);
    panels_bf16(grad, room->down, n, H);
    multiply_bf16(room->across, n, room->down, STEP * n, d_w, H, M, H, n, 0);
}

static void expert_backward_weights(struct room *room, void *d_w_in, void *d_w_out, i64 rows,
                                    i64 M, i64 H, int wide) {
    float *turned = wide ? d_w_out : room->turned;
    weight_gradient(room, room->x, room->d, wide ? d_w_in : room->product, rows, M, H);
    if (!wide) narrow_row(room->product, d_w_in, M * H);
    /* That of the output matrix the other way round: the narrow side is cheaper to transpose. */
    weight_gradient(room, room->d_y, room->hidden, room->product, rows, M, H);
    transpose((uint32_t *)room->product, (uint32_t *)turned, M, H);
    if (!wide) narrow_row(turned, d_w_out, M * H);
}

/* `d_y` is of the tokens, without their gates; what comes is of the rows, and of the weights. */
int experts_backward(const bf16 *x, const bf16 *d_y, const void *w_in, const void *w_out,
                     const i64 *first_row, const i64 *token_of_row, const bf16 *before,
                     const float *gates, bf16 *d_rows, float *d_gates, void *d_w_in, void *d_w_out,
                     i64 E, i64 M, i64 H, int wide, int threads) {
    i64 most = most_rows(first_row, E);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct room room;
        char *all = make_room(&room, most, M, H);
        failed = !all;
        begin_products();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++) {
            i64 first = first_row[e], rows = first_row[e + 1] - first, at = e * M * H;
            void *d_in = part(d_w_in, at, wide), *d_out = part(d_w_out, at, wide);
            if (!all || !rows) {
                memset(d_in, 0, M * H * (wide ? sizeof(float) : sizeof(bf16)));
                memset(d_out, 0, M * H * (wide ? sizeof(float) : sizeof(bf16)));
                continue;
            }
            gather(x, token_of_row + first, room.x, rows, M);
            gather(d_y, token_of_row + first, room.d_y, rows, M);
            bf16 *between = (bf16 *)room.product;
            panels_across_weight(part(w_in, at, wide), room.w_in, between, M, H, wide);
            panels_across_weight(part(w_out, at, wide), room.w_out, between, H, M, wide);
            expert_backward_rows(&room, before + first * H, gates + first, d_rows + first * M,
                                 d_gates + first, rows, M, H);
            expert_backward_weights(&room, d_in, d_out, rows, M, H, wide);
        }
        end_products();
        free(all);
    }
    return failed;
}
