/* One perceptron of a stack: forward, backward, and the step that its gradients make. */
#ifndef NETWORK_H
#define NETWORK_H

#include "adam.h"
#include "product.h"

typedef struct {
    int layers;
    int widths[MAX_LAYERS + 1];
    Activation activation;
    ptrdiff_t weights[MAX_LAYERS], biases[MAX_LAYERS]; /* places in any of the stack's flat arrays */
    const REAL *numbers;                               /* the flat array that it computes with */
} Network;

static Network network(const Networks *stack, int64_t number, const void *numbers) {
    Network net = {.layers = (int)stack->layers, .activation = (Activation)stack->activation, .numbers = numbers};
    for (int l = 0; l <= net.layers; l++) net.widths[l] = (int)stack->widths[l];
    for (int l = 0; l < net.layers; l++) {
        net.weights[l] = stack->weights[l] + number * net.widths[l] * net.widths[l + 1];
        net.biases[l] = stack->biases[l] + number * net.widths[l + 1];
    }
    return net;
}

/* Say that all numbers of this network are going to be used from an array of the stack's form. */
static void expect_network(Ahead *ahead, const Network *net, const void *numbers) {
    for (int l = 0; l < net->layers; l++) {
        expect(ahead, (const REAL *)numbers + net->weights[l], (ptrdiff_t)net->widths[l] * net->widths[l + 1]);
        expect(ahead, (const REAL *)numbers + net->biases[l], net->widths[l + 1]);
    }
}

/* What a pass leaves behind and what a backward pass needs; the same memory serves one network after the other. */
typedef struct {
    REAL *hidden[MAX_LAYERS]; /* (slots, widths[l + 1], BLOCK) of each hidden layer */
    REAL *panels[MAX_LAYERS]; /* gradients before the activation of layer l, transposed: see transpose() */
    REAL *gradients[2];       /* (widest layer, BLOCK), in turn */
    REAL *strips[2];          /* gradients of a few rows of weights, (ROWS, widest layer), in turn */
    Ahead *ahead;
} Trace;

INLINE REAL *hidden_of(const Network *net, const Trace *trace, int layer, int slot) {
    return trace->hidden[layer] + (ptrdiff_t)slot * net->widths[layer + 1] * BLOCK;
}

/* inputs (in, BLOCK) to outputs (out, BLOCK); the hidden layers go to a slot of the trace. */
static void forward(const Network *net, const REAL *inputs, const Trace *trace, int slot, REAL *outputs) {
    for (int l = 0; l < net->layers; l++) {
        int last = l == net->layers - 1;
        REAL *to = last ? outputs : hidden_of(net, trace, l, slot);
        forward_layer(
            net->widths[l], net->widths[l + 1], net->numbers + net->weights[l], net->numbers + net->biases[l],
            last ? LINEAR : net->activation, inputs, to,
            trace->ahead
        );
        inputs = to;
    }
}

/* Gradients with respect to the outputs (out, BLOCK) back to those before the first layer's activation, which are
   returned. With blocks > 0 all layers' are put into the panels, in the place of this block. */
static const REAL *backward(
    const Network *net, const REAL *gradient, const Trace *trace, int slot, int block, int blocks
) {
    for (int l = net->layers - 1;; l--) {
        if (blocks) transpose(net->widths[l + 1], blocks, gradient, trace->panels[l] + (ptrdiff_t)block * BLOCK * BLOCK);
        if (l == 0) return gradient;
        REAL *to = trace->gradients[l % 2];
        input_gradient(
            0, net->widths[l], net->widths[l + 1], net->numbers + net->weights[l], net->activation,
            hidden_of(net, trace, l - 1, slot), gradient, to, trace->ahead
        );
        gradient = to;
    }
}

/* The first block's part of the product of a panel: between its steps, Adam's of gradients that are known already, as
   many as this product makes. */
INLINE void multiply_and_step(
    const int rows, const REAL *left, const REAL *right, Ahead *ahead, vector sums[][2], const AdamStep *step,
    Waiting *waiting
) {
    enum { TURN = LANES / ROWS > 0 ? LANES / ROWS : 1 };
    const char *line = lines_ahead(ahead, BLOCK / TURN);
    for (int d = 0; d < BLOCK; d += TURN, line += LINE) {
        fetch(line);
        for (int turn = d; turn < d + TURN; turn++) multiply_step(rows, left + turn, BLOCK, right + turn * BLOCK, sums);
        adam_next(step, waiting);
    }
}

/* dW[i, o] = sum_b inputs[i, b] doutputs[b, o] of a few rows of weights, neighbors in memory, while Adam works on those
   before them. */
INLINE void learn_rows(
    const int rows, int i, int out, int blocks, ptrdiff_t input_stride, const REAL *inputs, const REAL *panels,
    const Trace *trace, const AdamStep *step, const Waiting *layer, Waiting *waiting
) {
    REAL *strip = trace->strips[waiting->gradient == trace->strips[0]];
    for (int o = 0; o < out; o += BLOCK) {
        vector sums[ROWS][2];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = fill(0);
        const REAL *left = inputs + i * BLOCK;
        multiply_and_step(rows, left, panels, trace->ahead, sums, step, waiting);
        panels += BLOCK * BLOCK;
        for (int block = 1; block < blocks; block++, panels += BLOCK * BLOCK)
            multiply(rows, BLOCK, left + block * input_stride, BLOCK, 1, panels, trace->ahead, sums);
        size_t bytes = (out - o < BLOCK ? out - o : BLOCK) * sizeof(REAL);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            if (bytes == sizeof sums[r])
                memcpy(strip + r * out + o, sums[r], sizeof sums[r]);
            else
                memcpy(strip + r * out + o, sums[r], bytes);
        }
    }
    adam(step, waiting);
    ptrdiff_t at = (ptrdiff_t)i * out;
    *waiting = (Waiting){
        .gradient = strip,
        .p = layer->p + at,
        .m = layer->m + at,
        .v = layer->v + at,
        .target = layer->target ? layer->target + at : NULL,
        .count = (int64_t)rows * out,
    };
}

/* Adam's step of one network with the gradients of all blocks; inputs (blocks, in, BLOCK), `input_stride` apart. */
static void learn(
    const Network *net, const Networks *stack, const AdamStep *step, int move_target, int blocks,
    ptrdiff_t input_stride, const REAL *inputs, const Trace *trace
) {
    Waiting waiting = {0};
    for (int l = 0; l < net->layers; l++) {
        int in = net->widths[l], out = net->widths[l + 1];
        Waiting layer = {
            .p = (REAL *)stack->parameters + net->weights[l],
            .m = (REAL *)stack->first_moment + net->weights[l],
            .v = (REAL *)stack->second_moment + net->weights[l],
            .target = move_target ? (REAL *)stack->target + net->weights[l] : NULL,
        };
        FOR_ROWS(0, in, learn_rows, out, blocks, input_stride, inputs, trace->panels[l], trace, step, &layer, &waiting);
        adam(step, &waiting);

        ptrdiff_t bias = net->biases[l] - net->weights[l];
        bias_gradient(out, blocks, trace->panels[l], trace->strips[0]);
        waiting = (Waiting){
            .gradient = trace->strips[0],
            .p = layer.p + bias,
            .m = layer.m + bias,
            .v = layer.v + bias,
            .target = layer.target ? layer.target + bias : NULL,
            .count = out,
        };
        adam(step, &waiting);
        if (l < net->layers - 1) {
            inputs = trace->hidden[l];
            input_stride = (ptrdiff_t)out * BLOCK;
        }
    }
}

#endif
