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
    REAL *strip;              /* gradient of a few rows of weights, (ROWS, widest layer) */
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

/* Adam's step of one network with the gradients of all blocks; inputs (blocks, in, BLOCK), `input_stride` apart.
   The gradient of a few rows of weights, neighbors in memory, is used as soon as it is known. */
INLINE void learn_rows(
    const int rows, int i, int out, int blocks, ptrdiff_t input_stride, const REAL *inputs, const REAL *panels,
    const Trace *trace, const AdamStep *step, REAL *p, REAL *m, REAL *v, REAL *target
) {
    ptrdiff_t at = (ptrdiff_t)i * out;
    weight_gradient_rows(rows, i, out, blocks, input_stride, inputs, panels, trace->strip, trace->ahead);
    adam(step, (int64_t)rows * out, trace->strip, p + at, m + at, v + at, target ? target + at : NULL);
}

static void learn(
    const Network *net, const Networks *stack, const AdamStep *step, int move_target, int blocks,
    ptrdiff_t input_stride, const REAL *inputs, const Trace *trace
) {
    for (int l = 0; l < net->layers; l++) {
        REAL *p = (REAL *)stack->parameters + net->weights[l], *m = (REAL *)stack->first_moment + net->weights[l];
        REAL *v = (REAL *)stack->second_moment + net->weights[l];
        REAL *target = move_target ? (REAL *)stack->target + net->weights[l] : NULL;
        int in = net->widths[l], out = net->widths[l + 1];
        FOR_ROWS(
            0, in, learn_rows, out, blocks, input_stride, inputs, trace->panels[l], trace, step, p, m, v, target
        );
        ptrdiff_t bias = net->biases[l] - net->weights[l];
        bias_gradient(out, blocks, trace->panels[l], trace->strip);
        adam(step, out, trace->strip, p + bias, m + bias, v + bias, target ? target + bias : NULL);
        if (l < net->layers - 1) {
            inputs = trace->hidden[l];
            input_stride = (ptrdiff_t)out * BLOCK;
        }
    }
}

#endif
