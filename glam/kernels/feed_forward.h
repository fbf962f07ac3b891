/* Feed-forwards in float32, whole: GEGLU, its plain form, and the experts of a layer (paper,
 * section 4). What a product makes goes on, through GELU and to the next product, while it is in
 * the cache.
 *
 *   y = GELU(x w_in) w_out                      plain, and each expert
 *   y = (GELU(x w_gate) * (x w_in)) w_out       GEGLU
 *
 * Rows are worked on in blocks, which threads take one by one, so that an expert that most tokens
 * go to does not keep one thread while the others wait. In the backward pass a wave of up to WAVE
 * rows first gets its gradients of the hidden units, and then its part of the weights' gradients:
 * what is between the two stays small whatever the batch is.
 *
 * The hidden units of a block of n rows lie in panels [H / PANEL, n, PANEL], the last padded: each
 * is what a product makes at a time and what another takes, and needs no packing. */
#define WAVE         1024
#define LARGE_WEIGHT 65536 /* elements from which blocks are large, since each reads the weights */
#define LARGE_BLOCK  960   /* rows of a block then */
#define SMALL_BLOCK  120   /* rows of a block else */
#define SPLIT_FROM   480   /* rows of an expert from which there are blocks for several threads */

/* A feed-forward of E experts, w_in [E, M, H] and w_out [E, H, M]; E is 1 without experts.
 * Expert e has rows [first_row[e], first_row[e + 1]), of which row r is token token_of_row[r];
 * NULL for both: row r is token r of the only expert. Kept of the forward pass: `gate` and `in`,
 * [rows, H rounded up to TILE] in blocks of panels, the products with w_gate and w_in; `gate`
 * for GEGLU alone. */
struct feed_forward {
    const float *x, *w_gate, *w_in, *w_out;
    const i64 *first_row, *token_of_row;
    float *gate, *in, *y;
    i64 rows, E, M, H;
};

/* Floats of a row of hidden units, padding included. */
static i64 padded_hidden(const struct feed_forward *f) { return round_up_tile(f->H); }

/* Rows [first, first + n) of an expert; `add`: the expert's rows before them came earlier. */
struct rows_of_expert {
    i64 expert, first, n;
    int add;
};

static i64 rows_before(const struct feed_forward *f, i64 expert) {
    return f->first_row ? f->first_row[expert] : expert * f->rows;
}

/* The blocks of an expert of so many rows. They do not depend on the number of threads, as the kept
 * hidden units lie in them. */
static i64 blocks_of_expert(const struct feed_forward *f, i64 rows) {
    int large = f->M * f->H > LARGE_WEIGHT;
    if (rows < SPLIT_FROM) return large ? rows > 0 : (rows + MOST_ROWS - 1) / MOST_ROWS;
    i64 most = large ? LARGE_BLOCK : SMALL_BLOCK;
    return round_up((rows + most - 1) / most, large ? 2 : 4);
}

/* The most rows of a block. */
static i64 rows_of_block(const struct feed_forward *f) {
    return f->M * f->H > LARGE_WEIGHT ? LARGE_BLOCK : MOST_ROWS;
}

/* The blocks of all experts, as even as they go. Returns how many there are; `out` is NULL to count
 * them. */
static i64 list_blocks(const struct feed_forward *f, struct rows_of_expert *out) {
    i64 count = 0;
    for (i64 e = 0; e < f->E; e++) {
        i64 first = rows_before(f, e), rows = rows_before(f, e + 1) - first;
        i64 blocks = blocks_of_expert(f, rows);
        for (i64 i = 0; i < blocks; i++, count++) {
            i64 from = rows * i / blocks, to = rows * (i + 1) / blocks;
            if (out) out[count] = (struct rows_of_expert){e, first + from, to - from, i > 0};
        }
    }
    return count;
}

/* The rows of x [tokens, M] as one block: where they lie, or gathered into `block`. */
static const float *gathered(const float *x, const i64 *token_of_row, i64 first, i64 n, i64 M,
                             float *block) {
    if (!token_of_row) return x + first * M;
    for (i64 r = 0; r < n; r++)
        memcpy(block + r * M, x + token_of_row[first + r] * M, M * sizeof(float));
    return block;
}

/* One block through both products. `block` has room for [n, M] and [n, H]. */
static void forward_block(const struct feed_forward *f, struct rows_of_expert rows, float *block,
                          struct product_space *space) {
    i64 M = f->M, H = f->H, n = rows.n, at = rows.expert * M * H, first = rows.first;
    i64 kept = first * padded_hidden(f);
    float *hidden = block + n * M;
    struct hidden_block b = {
        .gate = f->gate ? f->gate + kept : NULL, .in = f->in + kept, .hidden = hidden, .n = n};
    struct product p = {.a = gathered(f->x, f->token_of_row, first, n, M, block),
                        .lda = M,
                        .ldb = H,
                        .n = n,
                        .N = H,
                        .K = M,
                        .c_panel = n * PANEL};
    if (f->gate) p.b = f->w_gate, p.c = f->gate + kept, multiply(&p, space);
    p.b = f->w_in + at, p.c = f->in + kept, p.finish = gelu_piece, p.with = &b;
    multiply(&p, space);
    p = (struct product){.a = hidden,
                         .b = f->w_out + at,
                         .c = f->y + first * M,
                         .ldb = M,
                         .ldc = M,
                         .n = n,
                         .N = M,
                         .K = H,
                         .a_panel = n * PANEL};
    multiply(&p, space);
}

/* A thread's room for a block of rows. */
static i64 floats_of_block(const struct feed_forward *f) {
    return lesser(rows_of_block(f), rows_before(f, f->E)) * (f->M + padded_hidden(f));
}

static int run_forward(const struct feed_forward *f, int threads) {
    i64 count = list_blocks(f, NULL), each = floats_of_block(f);
    struct product_space *spaces = alloc_spaces(threads);
    float *all = malloc(threads * each * sizeof(float));
    struct rows_of_expert *blocks = malloc((count + 1) * sizeof *blocks);
    int failed = !spaces || !all || !blocks;
    if (!failed) {
        list_blocks(f, blocks);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (i64 i = 0; i < count; i++)
            forward_block(f, blocks[i], all + omp_get_thread_num() * each,
                          spaces + omp_get_thread_num());
    }
    free(spaces), free(all), free(blocks);
    return failed;
}

#include "feed_forward_backward.h"

/* y [rows, M], ungated, of x [tokens, M] by w_in [E, M, H] and w_out [E, H, M]; first_row [E +
 * 1], token_of_row [rows]. in [rows, H rounded up to TILE] is kept for the backward pass.
 * Returns 1 where there is no memory. Reference: reference_experts. */
int experts_forward_f32(const float *x, const float *w_in, const float *w_out, const i64 *first_row,
                        const i64 *token_of_row, float *in, float *y, i64 E, i64 M, i64 H,
                        int w_is_f32, int threads) {
    (void)w_is_f32;
    struct feed_forward f = {.x = x,
                             .w_in = w_in,
                             .w_out = w_out,
                             .first_row = first_row,
                             .token_of_row = token_of_row,
                             .in = in,
                             .y = y,
                             .E = E,
                             .M = M,
                             .H = H};
    return run_forward(&f, threads);
}

/* From d_y [tokens, M], ungated, and gates [rows]: d_rows [rows, M], d_gates [rows], and the
 * gradients of the weights. Returns 1 where there is no memory.
 * Reference: reference_experts_backward. */
int experts_backward_f32(const float *x, const float *d_y, const float *w_in, const float *w_out,
                         const i64 *first_row, const i64 *token_of_row, const float *in,
                         const float *gates, float *d_rows, float *d_gates, float *d_w_in,
                         float *d_w_out, i64 E, i64 M, i64 H, int w_is_f32, int threads) {
    (void)w_is_f32;
    struct feed_forward f = {.x = x,
                             .w_in = w_in,
                             .w_out = w_out,
                             .first_row = first_row,
                             .token_of_row = token_of_row,
                             .in = (float *)in,
                             .E = E,
                             .M = M,
                             .H = H};
    struct feed_forward_gradients g = {.d_y = d_y,
                                       .gates = gates,
                                       .d_x = d_rows,
                                       .d_gates = d_gates,
                                       .d_w_in = d_w_in,
                                       .d_w_out = d_w_out};
    return run_backward(&f, g, threads);
}

/* y [rows, M] of x [rows, M]: GEGLU by w_gate [M, H], or the plain form where w_gate and `gate`
 * are NULL. gate and in, [rows, H rounded up to TILE], are kept for the backward pass. Returns 1
 * where there is no memory. Reference: reference_feed_forward. */
int feed_forward_f32(const float *x, const float *w_gate, const float *w_in, const float *w_out,
                     float *gate, float *in, float *y, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward f = {.x = x,
                             .w_gate = w_gate,
                             .w_in = w_in,
                             .w_out = w_out,
                             .gate = gate,
                             .in = in,
                             .y = y,
                             .rows = rows,
                             .E = 1,
                             .M = M,
                             .H = H};
    return run_forward(&f, threads);
}

/* From d_y [rows, M]: d_x [rows, M] and the gradients of the weights, d_w_gate NULL for the plain
 * form. Returns 1 where there is no memory.
 * Reference: reference_feed_forward. */
int feed_forward_backward_f32(const float *x, const float *d_y, const float *w_gate,
                              const float *w_in, const float *w_out, const float *gate,
                              const float *in, float *d_x, float *d_w_gate, float *d_w_in,
                              float *d_w_out, i64 rows, i64 M, i64 H, int threads) {
    struct feed_forward f = {.x = x,
                             .w_gate = w_gate,
                             .w_in = w_in,
                             .w_out = w_out,
                             .gate = (float *)gate,
                             .in = (float *)in,
                             .rows = rows,
                             .E = 1,
                             .M = M,
                             .H = H};
    struct feed_forward_gradients g = {
        .d_y = d_y, .d_x = d_x, .d_w_gate = d_w_gate, .d_w_in = d_w_in, .d_w_out = d_w_out};
    return run_backward(&f, g, threads);
}
