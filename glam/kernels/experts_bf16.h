/* The feed-forwards of all experts of a layer (paper, section 4), y = GELU(x w_in) w_out for the
 * rows of each expert, in bfloat16: what feed_forward_bf16.h does, one expert per thread.
 *
 * x [tokens, M], w_in [E, M, H], w_out [E, H, M]; first_row [E + 1] is where each expert's rows
 * begin, each count padded to a multiple of 16.
 * token_of_row [rows]: rows without a choice read some token and have gate 0. M and H are
 * multiples of TILE. Weights and their gradients are float32 where `w_is_f32`, else bfloat16. */

/* All experts: what every one of them has in common, with the first row's place of each array. */
struct experts_bf16 {
    struct feed_forward_bf16 all;
    const void *w_in, *w_out;
    void *d_w_in, *d_w_out;
    const i64 *first_row;
    int w_is_f32;
};

/* A thread's workspace. */
struct workspace_bf16 {
    struct packed_feed_forward packed;
    struct wave_bf16 wave;
    struct block_bf16 block;
    float *d_w_in, *d_w_out; /* of an expert whose weights are bfloat16 */
};

static i64 layout_workspace_bf16(const struct experts_bf16 *e, struct workspace_bf16 *out,
                                 char *at) {
    char *start = at;
    i64 of_weight = e->w_is_f32 ? 0 : e->all.M * e->all.H * sizeof(float);
    at += layout_packed(&e->all, &out->packed, e->all.d_y ? &out->wave : NULL, at);
    out->d_w_in = arena_take(&at, e->all.d_y ? of_weight : 0);
    out->d_w_out = arena_take(&at, e->all.d_y ? of_weight : 0);
    at += layout_block_bf16(&e->all, &out->block, at);
    return at - start;
}

/* Takes the workspace from one arena, which the caller frees; NULL where there is no memory. */
static char *alloc_workspace_bf16(const struct experts_bf16 *e, struct workspace_bf16 *out) {
    static char nowhere[64] __attribute__((aligned(64)));
    char *arena = aligned_alloc(64, layout_workspace_bf16(e, out, nowhere));
    if (arena) layout_workspace_bf16(e, out, arena);
    return arena;
}

/* An expert's matrix in a stack of weights or gradients. */
static void *expert_slice_bf16(const void *stack, i64 elements, int w_is_f32) {
    return (char *)stack + elements * (w_is_f32 ? sizeof(float) : sizeof(bf16));
}

/* Packs an expert's w [K, N] into panels of pairs. */
static void pack_expert(const void *w, bf16 *out, i64 K, i64 N, int w_is_f32) {
    if (!w_is_f32) pack_bf16(w, N, out, K, N);
    else
        for (i64 k = 0; k < K; k += 2) pack_two_rows(w, out, k, K, N);
}

/* Packs the transpose of an expert's w [N, K]. */
static void pack_expert_t(const void *w, bf16 *out, i64 N, i64 K, int w_is_f32, bf16 *scratch) {
    if (!w_is_f32) pack_t_bf16(w, K, out, N, K);
    else
        for (i64 j = 0; j < N; j += TILE) pack_panel_t(w, out, j, K, scratch);
}

/* Expert e as a feed-forward of its rows. */
static struct feed_forward_bf16 one_expert(const struct experts_bf16 *all, i64 e) {
    struct feed_forward_bf16 f = all->all;
    i64 first = all->first_row[e];
    f.rows = all->first_row[e + 1] - first;
    f.tokens += first, f.in += first * f.H;
    if (!f.d_y) f.y += first * f.M;
    else f.gates += first, f.d_gates += first, f.d_x += first * f.M;
    return f;
}

static void expert_forward_bf16(const struct experts_bf16 *all, i64 e, struct workspace_bf16 *w) {
    struct feed_forward_bf16 f = one_expert(all, e);
    i64 M = f.M, H = f.H, at = e * M * H;
    if (!f.rows) return;
    pack_expert(expert_slice_bf16(all->w_in, at, all->w_is_f32), w->packed.w_in, M, H,
                all->w_is_f32);
    pack_expert(expert_slice_bf16(all->w_out, at, all->w_is_f32), w->packed.w_out, H, M,
                all->w_is_f32);
    for (i64 r = 0; r < f.rows; r += f.high)
        block_forward_bf16(&f, &w->packed, r, lesser(f.high, f.rows - r), &w->block);
}

/* Forward pass of all experts: pre_activation [all rows, H], for each expert in the panels of
 * feed_forward_bf16.h, and ungated y [all rows, M]. Returns 1 where there is no memory.
 * Reference: reference_experts. */
int experts_forward_bf16(const bf16 *x, const void *w_in, const void *w_out, const i64 *first_row,
                         const i64 *token_of_row, bf16 *pre_activation, bf16 *y, i64 E, i64 M,
                         i64 H, int w_is_f32, int threads) {
    struct experts_bf16 all = {.all = {.x = x,
                                       .tokens = token_of_row,
                                       .in = pre_activation,
                                       .y = y,
                                       .M = M,
                                       .H = H,
                                       .high = ROW_TILE},
                               .w_in = w_in,
                               .w_out = w_out,
                               .first_row = first_row,
                               .w_is_f32 = w_is_f32};
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct workspace_bf16 workspace;
        char *arena = alloc_workspace_bf16(&all, &workspace);
        failed = !arena;
        begin_products_bf16();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++)
            if (arena) expert_forward_bf16(&all, e, &workspace);
        end_products_bf16();
        free(arena);
    }
    return failed;
}

/* All waves of an expert's rows. */
static void expert_waves_bf16(const struct feed_forward_bf16 *f, struct workspace_bf16 *w) {
    for (i64 first = 0; first < f->rows; first += GRADIENT_ROWS) {
        i64 some = lesser(GRADIENT_ROWS, f->rows - first);
        w->wave.deep = round_up_tile(some);
        for (i64 r = 0; r < some; r += f->high)
            block_backward_bf16(f, &w->packed, &w->wave, first + r, lesser(f->high, some - r), r,
                                &w->block);
        for (i64 j = 0; j < f->H; j += TILE)
            weights_backward_bf16(f, &w->wave, j, first > 0, first + some == f->rows);
    }
}

static void expert_backward_bf16(const struct experts_bf16 *all, i64 e, struct workspace_bf16 *w) {
    struct feed_forward_bf16 f = one_expert(all, e);
    int is_f32 = all->w_is_f32;
    i64 M = f.M, H = f.H, at = e * M * H, bytes = M * H * (is_f32 ? sizeof(float) : sizeof(bf16));
    void *d_in = expert_slice_bf16(all->d_w_in, at, is_f32);
    void *d_out = expert_slice_bf16(all->d_w_out, at, is_f32);
    if (!f.rows) {
        memset(d_in, 0, bytes), memset(d_out, 0, bytes);
        return;
    }
    f.d_w_in = is_f32 ? d_in : w->d_w_in, f.d_w_out = is_f32 ? d_out : w->d_w_out;
    pack_expert_t(expert_slice_bf16(all->w_in, at, is_f32), w->packed.w_in, M, H, is_f32,
                  w->block.scratch);
    pack_expert_t(expert_slice_bf16(all->w_out, at, is_f32), w->packed.w_out, H, M, is_f32,
                  w->block.scratch);
    expert_waves_bf16(&f, w);
    if (is_f32) return;
    narrow_row_bf16(f.d_w_in, d_in, M * H);
    narrow_row_bf16(f.d_w_out, d_out, M * H);
}

/* Backward pass of all experts: d_rows [all rows, M], d_gates [all rows] and the gradients of both
 * weights from d_y [tokens, M], which is ungated. Returns 1 where there is no memory.
 * Reference: reference_experts_backward. */
int experts_backward_bf16(const bf16 *x, const bf16 *d_y, const void *w_in, const void *w_out,
                          const i64 *first_row, const i64 *token_of_row, const bf16 *pre_activation,
                          const float *gates, bf16 *d_rows, float *d_gates, void *d_w_in,
                          void *d_w_out, i64 E, i64 M, i64 H, int w_is_f32, int threads) {
    struct experts_bf16 all = {.all = {.x = x,
                                       .tokens = token_of_row,
                                       .gates = gates,
                                       .in = (bf16 *)pre_activation,
                                       .M = M,
                                       .H = H,
                                       .high = ROW_TILE,
                                       .d_y = d_y,
                                       .d_x = d_rows,
                                       .d_gates = d_gates},
                               .w_in = w_in,
                               .w_out = w_out,
                               .d_w_in = d_w_in,
                               .d_w_out = d_w_out,
                               .first_row = first_row,
                               .w_is_f32 = w_is_f32};
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct workspace_bf16 workspace;
        char *arena = alloc_workspace_bf16(&all, &workspace);
        failed = !arena;
        begin_products_bf16();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++)
            if (arena) expert_backward_bf16(&all, e, &workspace);
        end_products_bf16();
        free(arena);
    }
    return failed;
}
