/* The three products of a linear layer, in all of which one small product in registers does the work.

   Weights are as PyTorch has them, (in, out). Activations stand on their side, (feature, BLOCK): a block holds BLOCK
   transitions, one in each lane. A larger batch is several blocks, the last one padded.
   Only the weights' gradient needs the other order, see transpose(). */
#ifndef PRODUCT_H
#define PRODUCT_H

#include "ahead.h"
#include "elementary.h"

/* Rows of the small product: with two vectors each, as many sums as registers hold. */
#if VECTOR_BYTES == 64 || defined(__aarch64__)
enum { ROWS = 8 };
#else
enum { ROWS = 4 };
#endif

/* sums[r] += left[r row_stride] right, where right is (BLOCK,). */
INLINE void multiply_step(const int rows, const REAL *left, ptrdiff_t row_stride, const REAL *right, vector sums[][2]) {
    vector first = load(right), second = load(right + LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        vector factor = fill(left[r * row_stride]);
        sums[r][0] += factor * first;
        sums[r][1] += factor * second;
    }
}

/* sums[r] += sum_d left[r row_stride + d depth_stride] right[d], where right is (depth, BLOCK). */
INLINE void multiply(
    const int rows, int depth, const REAL *left, ptrdiff_t row_stride, ptrdiff_t depth_stride, const REAL *right,
    Ahead *ahead, vector sums[][2]
) {
    const char *line = lines_ahead(ahead, depth / FETCH_EVERY);
    for (int d = 0; d < depth; d++) {
        if (d % FETCH_EVERY == 0) fetch(line + d / FETCH_EVERY * LINE);
        multiply_step(rows, left + d * depth_stride, row_stride, right + d * BLOCK, sums);
    }
}

/* ROWS at a time, then 4, then 1: `f` is called with a constant number of rows. */
#define FOR_ROWS(from, to, f, ...)                                  \
    do {                                                            \
        int row_ = (from);                                          \
        for (; row_ + ROWS <= (to); row_ += ROWS) f(ROWS, row_, __VA_ARGS__); \
        for (; row_ + 4 <= (to); row_ += 4) f(4, row_, __VA_ARGS__); \
        for (; row_ < (to); row_++) f(1, row_, __VA_ARGS__);        \
    } while (0)

/* ---- what a layer's units do ---- */

typedef enum { LINEAR, RELU, TANH } Activation; /* as in qmp_sb3/native/structures.py */

INLINE vector activated(Activation activation, vector x) {
    if (activation == RELU) return keep(~(x < 0), x); /* NaN stays NaN */
    if (activation == TANH) return hyperbolic_tangent(x);
    return x;
}

/* The derivative, from the activated value. */
INLINE vector slope(Activation activation, vector y, vector gradient) {
    if (activation == RELU) return keep(y > 0, gradient);
    if (activation == TANH) return gradient * (1 - y * y);
    return gradient;
}

/* ---- outputs[o] = f(bias[o] + sum_i W[i, o] inputs[i]) ---- */

INLINE void forward_rows(
    const int rows, int o, int in, int out, const REAL *weights, const REAL *biases, Activation activation,
    const REAL *inputs, REAL *outputs, Ahead *ahead
) {
    vector sums[ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = fill(biases[o + r]);
    multiply(rows, in, weights + o, 1, out, inputs, ahead, sums);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++)
            store(outputs + (o + r) * BLOCK + half * LANES, activated(activation, sums[r][half]));
}

/* (in, BLOCK) to (out, BLOCK) */
static void forward_layer(
    int in, int out, const REAL *weights, const REAL *biases, Activation activation, const REAL *inputs, REAL *outputs,
    Ahead *ahead
) {
    FOR_ROWS(0, out, forward_rows, in, out, weights, biases, activation, inputs, outputs, ahead);
}

/* ---- dinputs[i] = f'(inputs[i]) sum_o W[i, o] doutputs[o] ---- */

INLINE void input_gradient_rows(
    const int rows, int i, int out, const REAL *weights, Activation activation, const REAL *inputs,
    const REAL *doutputs, REAL *dinputs, Ahead *ahead
) {
    vector sums[ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = fill(0);
    multiply(rows, out, weights + (ptrdiff_t)i * out, out, 1, doutputs, ahead, sums);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) {
            ptrdiff_t place = (i + r) * BLOCK + half * LANES;
            store(dinputs + place, slope(activation, load(inputs + place), sums[r][half]));
        }
}

/* (out, BLOCK) to (in, BLOCK), the gradient before the activation that gave `inputs`; of the rows first <= i < in. */
static void input_gradient(
    int first, int in, int out, const REAL *weights, Activation activation, const REAL *inputs, const REAL *doutputs,
    REAL *dinputs, Ahead *ahead
) {
    FOR_ROWS(first, in, input_gradient_rows, out, weights, activation, inputs, doutputs, dinputs, ahead);
}

/* ---- dW[i, o] = sum_b inputs[i, b] doutputs[b, o] ---- */

#define PICK_(x, y, ...) __builtin_shuffle(x, y, (mask){__VA_ARGS__})
#ifdef __clang__
#undef PICK_
#define PICK_(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#endif

/* The lanes of x and y in turn, from their lower and from their upper halves. */
INLINE void zip(vector x, vector y, vector *lower, vector *upper) {
#if LANES == 2
    *lower = PICK_(x, y, 0, 2);
    *upper = PICK_(x, y, 1, 3);
#elif LANES == 4
    *lower = PICK_(x, y, 0, 4, 1, 5);
    *upper = PICK_(x, y, 2, 6, 3, 7);
#elif LANES == 8
    *lower = PICK_(x, y, 0, 8, 1, 9, 2, 10, 3, 11);
    *upper = PICK_(x, y, 4, 12, 5, 13, 6, 14, 7, 15);
#elif LANES == 16
    *lower = PICK_(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *upper = PICK_(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
}

/* A square of LANES rows, `stride` apart. Zipping each row with the one half the square below it, log2(LANES) times,
   brings every number to its place. */
INLINE void transpose_square(const REAL *from, REAL *to) {
    vector rows[LANES], zipped[LANES];
    for (int r = 0; r < LANES; r++) rows[r] = load(from + r * BLOCK);
    for (int done = 1; done < LANES; done *= 2) {
        for (int r = 0; r < LANES / 2; r++) zip(rows[r], rows[r + LANES / 2], &zipped[2 * r], &zipped[2 * r + 1]);
        for (int r = 0; r < LANES; r++) rows[r] = zipped[r];
    }
    for (int r = 0; r < LANES; r++) store(to + r * BLOCK, rows[r]);
}

/* Panels that hold `features` rows, BLOCK in each, the last one padded. */
INLINE int panels_of(int features) { return (features + BLOCK - 1) / BLOCK; }

/* One block of gradients (features, BLOCK), with room up to a multiple of LANES features, to its places in
   (panels, blocks, BLOCK, BLOCK), where a transition is a row and BLOCK features are the lanes. `to` is the block's
   place in the first panel. */
static void transpose(int features, int blocks, const REAL *from, REAL *to) {
    for (int feature = 0; feature < features; feature += LANES) {
        REAL *panel = to + (ptrdiff_t)(feature / BLOCK) * blocks * BLOCK * BLOCK + feature % BLOCK;
        for (int transition = 0; transition < BLOCK; transition += LANES)
            transpose_square(from + feature * BLOCK + transition, panel + transition * BLOCK);
    }
}

/* The sum over all transitions, (out,). */
static void bias_gradient(int out, int blocks, const REAL *panels, REAL *gradient) {
    for (int o = 0; o < out; o += BLOCK) {
        vector sums[2] = {fill(0), fill(0)};
        for (int row = 0; row < blocks * BLOCK; row++, panels += BLOCK) {
            sums[0] += load(panels);
            sums[1] += load(panels + LANES);
        }
        memcpy(gradient + o, sums, (out - o < BLOCK ? out - o : BLOCK) * sizeof(REAL));
    }
}

#endif
