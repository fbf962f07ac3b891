/* Experts, whole: an expert's rows are gathered, multiplied, and given back a block at a time, which
 * is in the cache. `first_row` [E + 1] is where each expert's rows begin, as many as a multiple of STEP;
 * rows that no choice fills read some token, and their gate is 0. Weights and their gradients are in
 * float32 where `wide`, else in bfloat16. */
#define AT_ONCE 128 /* rows on their way through both products */

/* Buffers of one thread, for `rows` of an expert. */
struct room {
    bf16 *x, *d_y, *hidden, *d, *w_in, *w_out, *across, *panels, *narrowed;
    float *block, *turned; /* of a product, STEP columns: [AT_ONCE or M, STEP] */
};

/* Returns what to free, NULL where there is no memory. */
static char *make_room(struct room *room, i64 rows, i64 M, i64 H) {
    i64 wide = M > H ? M : H, high = M > AT_ONCE ? M : AT_ONCE;
    i64 bytes = 2 * (2 * rows * (M + H) + 3 * M * H + 2 * rows * wide) + 4 * 2 * high * STEP;
    char *all = aligned_alloc(64, (bytes + 11 * 64 + 63) / 64 * 64), *at = all;
    if (!all) return NULL;
    room->x = carve(&at, 2 * rows * M);
    room->d_y = carve(&at, 2 * rows * M);
    room->hidden = carve(&at, 2 * rows * H);
    room->d = carve(&at, 2 * rows * H);
    room->w_in = carve(&at, 2 * M * H);
    room->w_out = carve(&at, 2 * M * H);
    room->narrowed = carve(&at, 2 * M * H);
    room->across = carve(&at, 2 * rows * wide);
    room->panels = carve(&at, 2 * rows * wide);
    room->block = carve(&at, 4 * high * STEP);
    room->turned = carve(&at, 4 * high * STEP);
    return all;
}

static void gather(const bf16 *x, const i64 *tokens, bf16 *out, i64 rows, i64 M) {
    for (i64 r = 0; r < rows; r++) memcpy(out + r * M, x + tokens[r] * M, M * sizeof(bf16));
}

/* An expert's part of a weight or a gradient. */
static void *part(const void *stack, i64 elements, int wide) {
    return (char *)stack + elements * (wide ? sizeof(float) : sizeof(bf16));
}

/* A weight in bfloat16; `narrowed` has room for it. */
static const bf16 *narrow_weight(const void *w, bf16 *narrowed, i64 n, int wide) {
    if (!wide) return w;
    narrow_row(w, narrowed, n);
    return narrowed;
}

/* Of a [n, K] times the panels of a matrix, the columns from j on. */
static void multiply_block(const bf16 *a, const bf16 *panels, float *block, i64 n, i64 j, i64 K) {
    multiply_bf16(a, K, panels + j * K, STEP * K, block, STEP, n, STEP, K, 0);
}

static void narrow_block(const float *block, bf16 *out, i64 n, i64 apart) {
    for (i64 r = 0; r < n; r++) narrow_row(block + r * STEP, out + r * apart, STEP);
}

static i64 most_rows(const i64 *first_row, i64 E) {
    i64 most = 0;
    for (i64 e = 0; e < E; e++)
        if (first_row[e + 1] - first_row[e] > most) most = first_row[e + 1] - first_row[e];
    return most;
}

/* GELU of STEP numbers. */
static void activate(const bf16 *x, bf16 *y) {
    float out[STEP];
#pragma omp simd
    for (i64 j = 0; j < STEP; j++) out[j] = gelu(widen_bf16(x[j]));
    narrow_row(out, y, STEP);
}

/* Both matrices' products without what lies between them ever leaving the first cache. */
static void expert_forward(struct room *room, bf16 *before, bf16 *y, i64 rows, i64 M, i64 H) {
    for (i64 r = 0; r < rows; r += AT_ONCE) {
        i64 n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        for (i64 j = 0; j < H; j += STEP) {
            bf16 *kept = before + r * H + j;
            multiply_block(room->x + r * M, room->w_in, room->block, n, j, M);
            narrow_block(room->block, kept, n, H);
            for (i64 i = 0; i < n; i++) activate(kept + i * H, room->hidden + i * H + j);
        }
        for (i64 j = 0; j < M; j += STEP) {
            multiply_block(room->hidden, room->w_out, room->block, n, j, H);
            narrow_block(room->block, y + r * M + j, n, M);
        }
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
            const void *in = part(w_in, e * M * H, wide), *out = part(w_out, e * M * H, wide);
            panels_bf16(narrow_weight(in, room.narrowed, M * H, wide), room.w_in, M, H);
            panels_bf16(narrow_weight(out, room.narrowed, M * H, wide), room.w_out, H, M);
            expert_forward(&room, before + first * H, y + first * M, rows, M, H);
        }
        end_products();
        free(all);
    }
    return failed;
}

/* Of STEP numbers, as gated_gelu_backward: `d` comes as the gradient of GELU(before). Returns the
 * gate's gradient. */
static float activate_backward(const float *d_hidden, const bf16 *before, float gate, bf16 *d,
                               bf16 *gated) {
    float dx[STEP], out[STEP], total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < STEP; j++) {
        float slope, y = gelu_and_slope(widen_bf16(before[j]), &slope), dy = d_hidden[j];
        total += y * dy;
        out[j] = gate * y;
        dx[j] = gate * dy * slope;
    }
    narrow_row(out, gated, STEP);
    narrow_row(dx, d, STEP);
    return total;
}

/* The rows' own gradients, and what those of the weights are made of. */
static void expert_backward_rows(struct room *room, const bf16 *before, const float *gates,
                                 bf16 *d_rows, float *d_gates, i64 rows, i64 M, i64 H) {
    memset(d_gates, 0, rows * sizeof(float));
    for (i64 r = 0; r < rows; r += AT_ONCE) {
        i64 n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        for (i64 j = 0; j < H; j += STEP) {
            multiply_block(room->d_y + r * M, room->w_out, room->block, n, j, M);
            for (i64 i = 0; i < n; i++) {
                i64 at = (r + i) * H + j;
                __builtin_prefetch(before + at + STEP); /* the next columns': too far for hardware */
                d_gates[r + i] += activate_backward(room->block + i * STEP, before + at,
                                                    gates[r + i], room->d + at, room->hidden + at);
            }
        }
        for (i64 j = 0; j < M; j += STEP) {
            multiply_block(room->d + r * H, room->w_in, room->block, n, j, H);
            narrow_block(room->block, d_rows + r * M + j, n, M);
        }
    }
}

/* rows [n, M] transposed, times grad [n, H]: d_w [M, H], or that transposed where it is `turned`: the
 * narrow side is cheaper to turn. */
static void weight_gradient(struct room *room, const bf16 *rows, const bf16 *grad, void *d_w,
                            i64 n, i64 M, i64 H, int turned, int wide) {
    turn_bf16(rows, room->across, n, M, room->panels);
    panels_bf16(grad, room->panels, n, H);
    for (i64 j = 0; j < H; j += STEP) {
        multiply_block(room->across, room->panels, room->block, M, j, n);
        if (turned) {
            float *out = wide ? (float *)d_w + j * M : room->turned;
            transpose((uint32_t *)room->block, (uint32_t *)out, M, STEP);
            if (!wide) narrow_row(out, (bf16 *)d_w + j * M, STEP * M);
        } else if (wide) {
            for (i64 i = 0; i < M; i++)
                memcpy((float *)d_w + i * H + j, room->block + i * STEP, STEP * sizeof(float));
        } else {
            narrow_block(room->block, (bf16 *)d_w + j, M, H);
        }
    }
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
            const void *in = part(w_in, at, wide), *out = part(w_out, at, wide);
            panels_across_bf16(narrow_weight(in, room.narrowed, M * H, wide), room.w_in, M, H);
            panels_across_bf16(narrow_weight(out, room.narrowed, M * H, wide), room.w_out, H, M);
            expert_backward_rows(&room, before + first * H, gates + first, d_rows + first * M,
                                 d_gates + first, rows, M, H);
            weight_gradient(&room, room.x, room.d, d_in, rows, M, H, 0, wide);
            weight_gradient(&room, room.d_y, room.hidden, d_out, rows, M, H, 1, wide);
        }
        end_products();
        free(all);
    }
    return failed;
}
