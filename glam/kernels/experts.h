/* Experts, whole: an expert's rows are gathered, multiplied, and given back a block at a time,
 * which is in the cache. `first_row` [E + 1] is where each expert's rows begin, as many as a
 * multiple of what products take; rows that no choice fills read some token, and their gate is 0.
 * Weights and their gradients are in float32 where `wide`, else in T. Included once for each type
 * T, as typed.h. */

/* Buffers of one thread, for `rows` of an expert. */
struct OF(room) {
    T *x, *d_y, *hidden, *d, *w_in, *w_out, *across, *panels, *narrowed;
    float *block, *turned; /* of a product, STEP columns: [AT_ONCE or M, STEP] */
};

/* Returns what to free, NULL where there is no memory. */
static char *OF(make_room)(struct OF(room) *room, i64 rows, i64 M, i64 H) {
    i64 wide = M > H ? M : H, high = M > AT_ONCE ? M : AT_ONCE;
    rows = filled(rows);
    i64 size = sizeof(T), of_block = high * STEP * sizeof(float);
    i64 bytes = size * (2 * rows * (M + H + wide) + 3 * M * H) + 2 * of_block;
    char *all = aligned_alloc(64, (bytes + 11 * 64 + 63) / 64 * 64), *at = all;
    if (!all) return NULL;
    room->x = carve(&at, size * rows * M);
    room->d_y = carve(&at, size * rows * M);
    room->hidden = carve(&at, size * rows * H);
    room->d = carve(&at, size * rows * H);
    room->w_in = carve(&at, size * M * H);
    room->w_out = carve(&at, size * M * H);
    room->narrowed = carve(&at, size * M * H);
    room->across = carve(&at, size * rows * wide);
    room->panels = carve(&at, size * rows * wide);
    room->block = carve(&at, of_block);
    room->turned = carve(&at, of_block);
    return all;
}

static void OF(gather)(const T *x, const i64 *tokens, T *out, i64 rows, i64 M) {
    for (i64 r = 0; r < rows; r++) memcpy(out + r * M, x + tokens[r] * M, M * sizeof(T));
}

/* An expert's part of a weight or a gradient. */
static void *OF(part)(const void *stack, i64 elements, int wide) {
    return (char *)stack + elements * (wide ? sizeof(float) : sizeof(T));
}

/* A weight in T; `narrowed` has room for it. */
static const T *OF(narrow_weight)(const void *w, T *narrowed, i64 n, int wide) {
    if (!wide || sizeof(T) == sizeof(float)) return w;
    for (i64 i = 0; i < n; i += STEP) {
        __builtin_prefetch((const float *)w + i + 512);
        __builtin_prefetch((const float *)w + i + 528);
        OF(narrow_row)((const float *)w + i, narrowed + i, STEP);
    }
    return narrowed;
}

/* Of a [n, K] times the panels of a matrix, the columns from j on. */
static void OF(multiply_block)(const T *a, const T *panels, float *block, i64 n, i64 j, i64 K) {
    OF(multiply)(a, K, panels + j * K, STEP * K, block, STEP, n, STEP, K, 0);
}

static void OF(narrow_block)(const float *block, T *out, i64 n, i64 apart) {
    for (i64 r = 0; r < n; r++) OF(narrow_row)(block + r * STEP, out + r * apart, STEP);
}

/* GELU of STEP numbers. */
static void OF(activate)(const T *x, T *y) {
    float out[STEP];
#pragma omp simd
    for (i64 j = 0; j < STEP; j++) out[j] = gelu(WIDEN(x[j]));
    OF(narrow_row)(out, y, STEP);
}

/* Both matrices' products without what lies between them ever leaving the first cache. */
static void OF(expert_forward)(struct OF(room) *room, T *before, T *y, i64 rows, i64 M, i64 H) {
    for (i64 r = 0; r < rows; r += AT_ONCE) {
        i64 n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        for (i64 j = 0; j < H; j += STEP) {
            T *kept = before + r * H + j;
            OF(multiply_block)(room->x + r * M, room->w_in, room->block, n, j, M);
            OF(narrow_block)(room->block, kept, n, H);
            for (i64 i = 0; i < n; i++) OF(activate)(kept + i * H, room->hidden + i * H + j);
        }
        for (i64 j = 0; j < M; j += STEP) {
            OF(multiply_block)(room->hidden, room->w_out, room->block, n, j, H);
            OF(narrow_block)(room->block, y + r * M + j, n, M);
        }
    }
}

/* `before` and `y` are of all rows, [.., H] and [.., M]. Returns 1 where there is no memory. */
int OF(experts_forward)(const T *x, const void *w_in, const void *w_out, const i64 *first_row,
                        const i64 *token_of_row, T *before, T *y, i64 E, i64 M, i64 H, int wide,
                        int threads) {
    i64 most = most_rows(first_row, E);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct OF(room) room;
        char *all = OF(make_room)(&room, most, M, H);
        failed = !all;
        begin_products();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++) {
            i64 first = first_row[e], rows = first_row[e + 1] - first;
            if (!all || !rows) continue;
            OF(gather)(x, token_of_row + first, room.x, rows, M);
            const void *in = OF(part)(w_in, e * M * H, wide);
            const void *out = OF(part)(w_out, e * M * H, wide);
            OF(panels)(OF(narrow_weight)(in, room.narrowed, M * H, wide), room.w_in, M, H);
            OF(panels)(OF(narrow_weight)(out, room.narrowed, M * H, wide), room.w_out, H, M);
            OF(expert_forward)(&room, before + first * H, y + first * M, rows, M, H);
        }
        end_products();
        free(all);
    }
    return failed;
}

/* Of STEP numbers, as gated_gelu_backward: `d` comes as the gradient of GELU(before). Returns the
 * gate's gradient. */
static float OF(activate_backward)(const float *d_hidden, const T *before, float gate, T *d,
                                   T *gated) {
    float dx[STEP], out[STEP], total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < STEP; j++) {
        float slope, y = gelu_and_slope(WIDEN(before[j]), &slope), dy = d_hidden[j];
        total += y * dy;
        out[j] = gate * y;
        dx[j] = gate * dy * slope;
    }
    OF(narrow_row)(out, gated, STEP);
    OF(narrow_row)(dx, d, STEP);
    return total;
}

/* The rows' own gradients, and what those of the weights are made of. */
static void OF(expert_backward_rows)(struct OF(room) *room, const T *before, const float *gates,
                                     T *d_rows, float *d_gates, i64 rows, i64 M, i64 H) {
    memset(d_gates, 0, rows * sizeof(float));
    for (i64 r = 0; r < rows; r += AT_ONCE) {
        i64 n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        for (i64 j = 0; j < H; j += STEP) {
            OF(multiply_block)(room->d_y + r * M, room->w_out, room->block, n, j, M);
            for (i64 i = 0; i < n; i++) {
                i64 at = (r + i) * H + j;
                /* Of the next columns, which are too far for the hardware's. */
                __builtin_prefetch(before + at + STEP);
                d_gates[r + i] +=
                    OF(activate_backward)(room->block + i * STEP, before + at, gates[r + i],
                                          room->d + at, room->hidden + at);
            }
        }
        for (i64 j = 0; j < M; j += STEP) {
            OF(multiply_block)(room->d + r * H, room->w_in, room->block, n, j, H);
            OF(narrow_block)(room->block, d_rows + r * M + j, n, M);
        }
    }
}

/* Rows of which the gradients of weights are sums, zeros after those that there are. */
static i64 OF(fill_rows)(struct OF(room) *room, i64 rows, i64 M, i64 H) {
    i64 n = sizeof(T) == sizeof(float) ? rows : filled(rows), more = (n - rows) * sizeof(T);
    memset(room->x + rows * M, 0, more * M);
    memset(room->d_y + rows * M, 0, more * M);
    memset(room->hidden + rows * H, 0, more * H);
    memset(room->d + rows * H, 0, more * H);
    return n;
}

/* rows [n, M] transposed, times grad [n, H]: d_w [M, H], or that transposed where it is `turned`:
 * the narrow side is cheaper to turn. */
static void OF(weight_gradient)(struct OF(room) *room, const T *rows, const T *grad, void *d_w,
                                i64 n, i64 M, i64 H, int turned, int wide) {
    OF(turn)(rows, room->across, n, M, room->panels);
    OF(panels)(grad, room->panels, n, H);
    for (i64 j = 0; j < H; j += STEP) {
        OF(multiply_turned)(room->across, room->panels + j * n, room->block, M, n);
        if (turned) {
            float *out = wide ? (float *)d_w + j * M : room->turned;
            transpose((uint32_t *)room->block, (uint32_t *)out, M, STEP);
            if (!wide) OF(narrow_row)(out, (T *)d_w + j * M, STEP * M);
        } else if (wide) {
            for (i64 i = 0; i < M; i++)
                memcpy((float *)d_w + i * H + j, room->block + i * STEP, STEP * sizeof(float));
        } else {
            OF(narrow_block)(room->block, (T *)d_w + j, M, H);
        }
    }
}

/* `d_y` is of the tokens, without their gates; what comes is of the rows, and of the weights. */
int OF(experts_backward)(const T *x, const T *d_y, const void *w_in, const void *w_out,
                         const i64 *first_row, const i64 *token_of_row, const T *before,
                         const float *gates, T *d_rows, float *d_gates, void *d_w_in, void *d_w_out,
                         i64 E, i64 M, i64 H, int wide, int threads) {
    i64 most = most_rows(first_row, E);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct OF(room) room;
        char *all = OF(make_room)(&room, most, M, H);
        failed = !all;
        begin_products();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++) {
            i64 first = first_row[e], rows = first_row[e + 1] - first, at = e * M * H;
            void *d_in = OF(part)(d_w_in, at, wide), *d_out = OF(part)(d_w_out, at, wide);
            if (!all || !rows) {
                memset(d_in, 0, M * H * (wide ? sizeof(float) : sizeof(T)));
                memset(d_out, 0, M * H * (wide ? sizeof(float) : sizeof(T)));
                continue;
            }
            OF(gather)(x, token_of_row + first, room.x, rows, M);
            OF(gather)(d_y, token_of_row + first, room.d_y, rows, M);
            const void *in = OF(part)(w_in, at, wide), *out = OF(part)(w_out, at, wide);
            OF(panels_across)(OF(narrow_weight)(in, room.narrowed, M * H, wide), room.w_in, M, H);
            OF(panels_across)(OF(narrow_weight)(out, room.narrowed, M * H, wide), room.w_out, H, M);
            OF(expert_backward_rows)(&room, before + first * H, gates + first, d_rows + first * M,
                                     d_gates + first, rows, M, H);
            rows = OF(fill_rows)(&room, rows, M, H);
            OF(weight_gradient)(&room, room.x, room.d, d_in, rows, M, H, 0, wide);
            OF(weight_gradient)(&room, room.d_y, room.hidden, d_out, rows, M, H, 1, wide);
        }
        end_products();
        free(all);
    }
    return failed;
}
