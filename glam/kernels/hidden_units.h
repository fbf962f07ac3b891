/* Hidden units of a block of rows on their way through GELU, forward and backward. They lie in
 * panels [H / PANEL, n, PANEL], the last padded. */

/* A block of hidden units on its way through GELU: panels of n rows. */
struct hidden_block {
    const float *gate, *in;  /* of the forward pass; `gate` NULL without GEGLU */
    float *d_gate, *d_in;    /* d_in comes as the gradient of the hidden units */
    float *hidden, *d_gates; /* d_gates [n], or NULL */
    const float *gates;      /* [n], or NULL for gates of 1 */
    i64 n;
};

/* Where row `top` of the panel of column j begins in a block of n rows. */
static i64 place_in_panels(i64 n, i64 top, i64 j) { return j * n + top * PANEL; }

static void gelu_piece(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    (void)columns; /* padding too */
    const struct hidden_block *b = with;
    i64 at = place_in_panels(b->n, top, j), count = rows * PANEL;
    const float *restrict gate = b->gate ? b->gate + at : NULL, *restrict in = b->in + at;
    float *restrict out = b->hidden + at;
    if (gate)
#pragma omp simd
        for (i64 i = 0; i < count; i++) out[i] = gelu(gate[i]) * in[i];
    else
#pragma omp simd
        for (i64 i = 0; i < count; i++) out[i] = gelu(in[i]);
}

/* Gradient of hidden = gate * GELU(in), of PANEL columns: d_in comes as that of the ungated hidden
 * units and becomes that of `in`. Returns this part of the gate's gradient. */
INLINE float gelu_row_backward(const float *restrict in, float *restrict d_in,
                               float *restrict hidden, float gate) {
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int q = 0; q < PANEL; q++) {
        float slope, y = gelu_and_slope(in[q], &slope), d = d_in[q];
        total += y * d;
        hidden[q] = gate * y;
        d_in[q] = gate * d * slope;
    }
    return total;
}

static void gelu_piece_backward(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    (void)columns;
    const struct hidden_block *b = with;
    for (i64 r = top; r < top + rows; r++) {
        i64 at = place_in_panels(b->n, r, j);
        float part = gelu_row_backward(b->in + at, b->d_in + at, b->hidden + at,
                                       b->gates ? b->gates[r] : 1.0f);
        if (b->d_gates) b->d_gates[r] = part + (j ? b->d_gates[r] : 0.0f);
    }
}

/* Gradient of hidden = GELU(gate) * in, in the same way. */
static void geglu_piece_backward(void *with, i64 top, i64 rows, i64 j, i64 columns) {
    (void)columns;
    const struct hidden_block *b = with;
    i64 at = place_in_panels(b->n, top, j), count = rows * PANEL;
    const float *restrict gate = b->gate + at, *restrict in = b->in + at;
    float *restrict d_gate = b->d_gate + at, *restrict d_in = b->d_in + at;
    float *restrict hidden = b->hidden + at;
#pragma omp simd
    for (i64 i = 0; i < count; i++) {
        float slope, y = gelu_and_slope(gate[i], &slope), d = d_in[i];
        hidden[i] = y * in[i];
        d_gate[i] = d * in[i] * slope;
        d_in[i] = d * y;
    }
}
