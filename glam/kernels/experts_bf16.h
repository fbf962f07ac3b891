/* The feed-forwards of all experts of a layer (paper, section 4), y = GELU(x w_in) w_out for the
 * rows of each expert: gather, both products and GELU go block by block in the cache, one expert
 * per thread, in bfloat16.
 *
 * x [tokens, M], w_in [E, M, H], w_out [E, H, M]; first_row [E + 1] is where each expert's rows
 * begin, each count padded to a multiple of 16.
 * token_of_row [rows]: rows without a choice read some token and have gate 0. M and H are
 * multiples of TILE. Weights and their gradients are float32 where `w_is_f32`, else bfloat16. */

/* The most rows that an expert has; first_row [E + 1]. */
static i64 max_rows(const i64 *first_row, i64 E) {
    i64 most = 0;
    for (i64 e = 0; e < E; e++)
        if (first_row[e + 1] - first_row[e] > most) most = first_row[e + 1] - first_row[e];
    return most;
}

/* Workspace of one thread for an expert of up to `rows` rows. */
struct workspace_bf16 {
    bf16 *x, *d_y, *hidden, *d, *w_in, *w_out, *packed_t, *packed, *w_narrow;
    float *block, *transposed; /* columns of a product: [ROW_TILE or M, TILE] */
};

/* Takes the workspace from one arena, which the caller frees; NULL where there is no memory. */
static char *alloc_workspace_bf16(struct workspace_bf16 *workspace, i64 rows, i64 M, i64 H) {
    i64 wider = M > H ? M : H, high = M > ROW_TILE ? M : ROW_TILE;
    rows = round_up_tile(rows);
    i64 size = sizeof(bf16), of_block = high * TILE * sizeof(float);
    i64 bytes = size * (2 * rows * (M + H + wider) + 3 * M * H) + 2 * of_block;
    char *arena = aligned_alloc(64, (bytes + 11 * 64 + 63) / 64 * 64), *at = arena;
    if (!arena) return NULL;
    workspace->x = arena_take(&at, size * rows * M);
    workspace->d_y = arena_take(&at, size * rows * M);
    workspace->hidden = arena_take(&at, size * rows * H);
    workspace->d = arena_take(&at, size * rows * H);
    workspace->w_in = arena_take(&at, size * M * H);
    workspace->w_out = arena_take(&at, size * M * H);
    workspace->w_narrow = arena_take(&at, size * M * H);
    workspace->packed_t = arena_take(&at, size * rows * wider);
    workspace->packed = arena_take(&at, size * rows * wider);
    workspace->block = arena_take(&at, of_block);
    workspace->transposed = arena_take(&at, of_block);
    return arena;
}

/* out [rows, M] = the rows `tokens` of x. */
static void gather_bf16(const bf16 *x, const i64 *tokens, bf16 *out, i64 rows, i64 M) {
    for (i64 r = 0; r < rows; r++) memcpy(out + r * M, x + tokens[r] * M, M * sizeof(bf16));
}

/* An expert's matrix in a stack of weights or gradients. */
static void *expert_slice_bf16(const void *stack, i64 elements, int w_is_f32) {
    return (char *)stack + elements * (w_is_f32 ? sizeof(float) : sizeof(bf16));
}

/* w [n] in the element type; `w_narrow` [n] holds the copy where one is needed. */
static const bf16 *narrow_weight_bf16(const void *w, bf16 *w_narrow, i64 n, int w_is_f32) {
    if (!w_is_f32) return w;
    for (i64 i = 0; i < n; i += TILE) {
        __builtin_prefetch((const float *)w + i + 512);
        __builtin_prefetch((const float *)w + i + 528);
        narrow_row_bf16((const float *)w + i, w_narrow + i, TILE);
    }
    return w_narrow;
}

/* Forward pass of one expert, ROW_TILE rows at a time: pre_activation [rows, H] is kept for the
 * backward pass, y [rows, M]. */
static void expert_forward_bf16(struct workspace_bf16 *workspace, bf16 *pre_activation, bf16 *y,
                                i64 rows, i64 M, i64 H) {
    for (i64 r = 0; r < rows; r += ROW_TILE) {
        i64 n = rows - r < ROW_TILE ? rows - r : ROW_TILE;
        for (i64 j = 0; j < H; j += TILE) {
            bf16 *kept = pre_activation + r * H + j;
            gemm_tile_bf16(workspace->x + r * M, M, workspace->w_in, workspace->block, n, j, M);
            store_tile_bf16(workspace->block, kept, n, H);
            for (i64 i = 0; i < n; i++) gelu_tile_bf16(kept + i * H, workspace->hidden + i * H + j);
        }
        for (i64 j = 0; j < M; j += TILE) {
            gemm_tile_bf16(workspace->hidden, H, workspace->w_out, workspace->block, n, j, H);
            store_tile_bf16(workspace->block, y + r * M + j, n, M);
        }
    }
}

/* Forward pass of all experts: pre_activation [all rows, H] and ungated y [all rows, M]. Returns 1
 * where there is no memory.
 * Reference: reference_experts. */
int experts_forward_bf16(const bf16 *x, const void *w_in, const void *w_out, const i64 *first_row,
                         const i64 *token_of_row, bf16 *pre_activation, bf16 *y, i64 E, i64 M,
                         i64 H, int w_is_f32, int threads) {
    i64 most = max_rows(first_row, E);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct workspace_bf16 workspace;
        char *arena = alloc_workspace_bf16(&workspace, most, M, H);
        failed = !arena;
        begin_products_bf16();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++) {
            i64 first = first_row[e], rows = first_row[e + 1] - first;
            if (!arena || !rows) continue;
            gather_bf16(x, token_of_row + first, workspace.x, rows, M);
            const void *in = expert_slice_bf16(w_in, e * M * H, w_is_f32);
            const void *out = expert_slice_bf16(w_out, e * M * H, w_is_f32);
            pack_bf16(narrow_weight_bf16(in, workspace.w_narrow, M * H, w_is_f32), H,
                      workspace.w_in, M, H);
            pack_bf16(narrow_weight_bf16(out, workspace.w_narrow, M * H, w_is_f32), M,
                      workspace.w_out, H, M);
            expert_forward_bf16(&workspace, pre_activation + first * H, y + first * M, rows, M, H);
        }
        end_products_bf16();
        free(arena);
    }
    return failed;
}

/* Backward pass of one expert's rows: d_rows [rows, M], d_gates [rows], and in the workspace `d`
 * and `hidden`, of which the weights' gradients are products. */
static void expert_backward_rows_bf16(struct workspace_bf16 *workspace, const bf16 *pre_activation,
                                      const float *gates, bf16 *d_rows, float *d_gates, i64 rows,
                                      i64 M, i64 H) {
    memset(d_gates, 0, rows * sizeof(float));
    for (i64 r = 0; r < rows; r += ROW_TILE) {
        i64 n = rows - r < ROW_TILE ? rows - r : ROW_TILE;
        for (i64 j = 0; j < H; j += TILE) {
            gemm_tile_bf16(workspace->d_y + r * M, M, workspace->w_out, workspace->block, n, j, M);
            for (i64 i = 0; i < n; i++) {
                i64 at = (r + i) * H + j;
                /* The next columns, too far for the hardware's prefetcher. */
                __builtin_prefetch(pre_activation + at + TILE);
                d_gates[r + i] += gelu_tile_backward_bf16(
                    workspace->block + i * TILE, pre_activation + at, gates[r + i],
                    workspace->d + at, workspace->hidden + at);
            }
        }
        for (i64 j = 0; j < M; j += TILE) {
            gemm_tile_bf16(workspace->d + r * H, H, workspace->w_in, workspace->block, n, j, H);
            store_tile_bf16(workspace->block, d_rows + r * M + j, n, M);
        }
    }
}

/* Pads the rows of the weight gradients with zeros to what the products take; returns how many
 * there are. */
static i64 zero_pad_rows_bf16(struct workspace_bf16 *workspace, i64 rows, i64 M, i64 H) {
    i64 n = round_up_tile(rows), more = (n - rows) * sizeof(bf16);
    memset(workspace->x + rows * M, 0, more * M);
    memset(workspace->d_y + rows * M, 0, more * M);
    memset(workspace->hidden + rows * H, 0, more * H);
    memset(workspace->d + rows * H, 0, more * H);
    return n;
}

/* d_w [M, H] = the transpose of rows [n, M], times grad [n, H]; its transpose [H, M] where
 * `transposed`, since the narrower operand is cheaper to transpose. */
static void weight_gradient_bf16(struct workspace_bf16 *workspace, const bf16 *rows,
                                 const bf16 *grad, void *d_w, i64 n, i64 M, i64 H, int transposed,
                                 int w_is_f32) {
    transpose_bf16(rows, workspace->packed_t, n, M, workspace->packed);
    pack_bf16(grad, H, workspace->packed, n, H);
    for (i64 j = 0; j < H; j += TILE) {
        gemm_transposed_bf16(workspace->packed_t, workspace->packed + j * n, workspace->block, M,
                             n);
        if (transposed) {
            float *out = w_is_f32 ? (float *)d_w + j * M : workspace->transposed;
            transpose_u32((uint32_t *)workspace->block, (uint32_t *)out, M, TILE);
            if (!w_is_f32) narrow_row_bf16(out, (bf16 *)d_w + j * M, TILE * M);
        } else if (w_is_f32) {
            for (i64 i = 0; i < M; i++)
                memcpy((float *)d_w + i * H + j, workspace->block + i * TILE, TILE * sizeof(float));
        } else {
            store_tile_bf16(workspace->block, (bf16 *)d_w + j, M, H);
        }
    }
}

/* Backward pass of all experts: d_rows [all rows, M], d_gates [all rows] and the gradients of both
 * weights from d_y [tokens, M], which is ungated. Returns 1 where there is no memory.
 * Reference: reference_experts_backward. */
int experts_backward_bf16(const bf16 *x, const bf16 *d_y, const void *w_in, const void *w_out,
                          const i64 *first_row, const i64 *token_of_row, const bf16 *pre_activation,
                          const float *gates, bf16 *d_rows, float *d_gates, void *d_w_in,
                          void *d_w_out, i64 E, i64 M, i64 H, int w_is_f32, int threads) {
    i64 most = max_rows(first_row, E);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct workspace_bf16 workspace;
        char *arena = alloc_workspace_bf16(&workspace, most, M, H);
        failed = !arena;
        begin_products_bf16();
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; e++) {
            i64 first = first_row[e], rows = first_row[e + 1] - first, at = e * M * H;
            void *d_in = expert_slice_bf16(d_w_in, at, w_is_f32),
                 *d_out = expert_slice_bf16(d_w_out, at, w_is_f32);
            if (!arena || !rows) {
                memset(d_in, 0, M * H * (w_is_f32 ? sizeof(float) : sizeof(bf16)));
                memset(d_out, 0, M * H * (w_is_f32 ? sizeof(float) : sizeof(bf16)));
                continue;
            }
            gather_bf16(x, token_of_row + first, workspace.x, rows, M);
            gather_bf16(d_y, token_of_row + first, workspace.d_y, rows, M);
            const void *in = expert_slice_bf16(w_in, at, w_is_f32),
                       *out = expert_slice_bf16(w_out, at, w_is_f32);
            pack_t_bf16(narrow_weight_bf16(in, workspace.w_narrow, M * H, w_is_f32), H,
                        workspace.w_in, M, H);
            pack_t_bf16(narrow_weight_bf16(out, workspace.w_narrow, M * H, w_is_f32), M,
                        workspace.w_out, H, M);
            expert_backward_rows_bf16(&workspace, pre_activation + first * H, gates + first,
                                      d_rows + first * M, d_gates + first, rows, M, H);
            rows = zero_pad_rows_bf16(&workspace, rows, M, H);
            weight_gradient_bf16(&workspace, workspace.x, workspace.d, d_in, rows, M, H, 0,
                                 w_is_f32);
            weight_gradient_bf16(&workspace, workspace.d_y, workspace.hidden, d_out, rows, M, H, 1,
                                 w_is_f32);
        }
        end_products_bf16();
        free(arena);
    }
    return failed;
}
