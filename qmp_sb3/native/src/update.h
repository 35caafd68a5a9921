/* What the native update is told: sizes, settings, and where PyTorch's memory is. qmp_sb3/native/structures.py has the same
   structures, field by field. */
#ifndef UPDATE_H
#define UPDATE_H

#include <stdint.h>

enum { MAX_LAYERS = 16 };

/* torch.optim.Adam's. */
typedef struct {
    double learning_rate, beta1, beta2, epsilon;
    int64_t steps; /* done before this call */
} AdamSettings;

/* A stack of networks of one shape, all of their numbers in one flat array, and Adam's moments and the numbers of the
   target networks in arrays of the same form. Layer l of network n has its weights (in, out) at
   weights[l] + n * in * out and its biases (out,) at biases[l] + n * out. */
typedef struct {
    int64_t layers;
    int64_t widths[MAX_LAYERS + 1]; /* of the input, the hidden layers and the output */
    int64_t weights[MAX_LAYERS], biases[MAX_LAYERS];
    int64_t activation; /* of the hidden layers */
    void *parameters, *first_moment, *second_moment, *target; /* target: NULL if there are no target networks */
    AdamSettings adam;
} Networks;

/* log alpha of each task (tasks,) with Adam's moments; learned unless first_moment is NULL, then values holds alpha. */
typedef struct {
    void *values, *first_moment, *second_moment;
    double target_entropy;
    AdamSettings adam;
} Temperatures;

typedef struct {
    int64_t is_float;        /* 1: all numbers are float, 0: double */
    int64_t instruction_set; /* see processor.h */
    int64_t threads;
    int64_t tasks, critics, features, actions;
    Networks actor, critic; /* networks n = task, and n = number of the critic * tasks + task */
    Temperatures temperatures;
    double gamma, tau;
    double importance; /* of each task's loss */
    int64_t target_interval;

    /* Transitions [s | a | s' | ... | r | continuation | ...], `width` numbers each. */
    const void *table;
    int64_t width, reward, continuation;

    int64_t batch, steps;
    int64_t steps_before;   /* of the same call of train(): the target moves with every target_interval-th */
    const int64_t *rows;    /* (steps, tasks, batch) places in the table */
    const void *noise;      /* (steps, 2, tasks, batch, actions): for the actions at s and at s' */
    double *sums;           /* (tasks, 4): temperature, critic and actor loss and alpha are added to these */
} Update;

#endif
