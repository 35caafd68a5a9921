/* Adam (Kingma and Ba, 2015), in the form and the order of operations of torch.optim.Adam(fused=True). */
#ifndef ADAM_H
#define ADAM_H

#include "update.h"
#include "vector.h"

/* What one step of an optimizer does to each of its numbers. */
typedef struct {
    REAL first_rate;   /* 1 - beta1 */
    REAL beta2;
    REAL second_rate;  /* 1 - beta2 */
    REAL step_size;    /* learning rate / (1 - beta1^t) */
    REAL root_scale;   /* 1 / sqrt(1 - beta2^t) */
    REAL epsilon;
    REAL tau;          /* share that a target moves, after the step */
} AdamStep;

/* The powers need double precision: in float, 1 - beta2^t is wrong by 1e-4 at first. */
static AdamStep adam_step(const AdamSettings *settings, int64_t steps_before, double tau) {
    double t = (double)steps_before + 1;
    return (AdamStep){
        .first_rate = (REAL)(1 - settings->beta1),
        .beta2 = (REAL)settings->beta2,
        .second_rate = (REAL)(1 - settings->beta2),
        .step_size = (REAL)(settings->learning_rate / (1 - pow(settings->beta1, t))),
        .root_scale = (REAL)(1 / sqrt(1 - pow(settings->beta2, t))),
        .epsilon = (REAL)settings->epsilon,
        .tau = (REAL)tau,
    };
}

INLINE void adam_vector(const AdamStep *step, const REAL *gradient, REAL *p, REAL *m, REAL *v, REAL *target) {
    vector g = load(gradient), first = load(m), second = load(v);
    first += step->first_rate * (g - first);
    second = step->beta2 * second + step->second_rate * g * g;
    vector moved = load(p) - step->step_size * first / (square_root(second) * step->root_scale + step->epsilon);
    store(p, moved);
    store(m, first);
    store(v, second);
    if (target) store(target, load(target) + step->tau * (moved - load(target)));
}

/* Neighbors in memory that wait for their step: it is made a vector at a time, between other work, because what takes
   long in it, a root and a quotient, leaves the processor free to do something else. */
typedef struct {
    const REAL *gradient;
    REAL *p, *m, *v, *target; /* target: NULL if none follows */
    int64_t at, count;        /* done, of all */
} Waiting;

/* The next vector of them, if there is a whole one. */
INLINE void adam_next(const AdamStep *step, Waiting *w) {
    int64_t at = w->at;
    if (at + LANES > w->count) return;
    adam_vector(step, w->gradient + at, w->p + at, w->m + at, w->v + at, w->target ? w->target + at : NULL);
    w->at = at + LANES;
}

/* All that still wait. */
static void adam(const AdamStep *step, Waiting *w) {
    while (w->at + LANES <= w->count) adam_next(step, w);
    if (w->at == w->count) return;
    int64_t at = w->at;
    REAL rest[5][LANES] = {0};
    REAL *places[5] = {(REAL *)w->gradient + at, w->p + at, w->m + at, w->v + at, w->target ? w->target + at : rest[4]};
    size_t bytes = (w->count - at) * sizeof(REAL);
    for (int k = 0; k < 5; k++) memmove(rest[k], places[k], bytes);
    adam_vector(step, rest[0], rest[1], rest[2], rest[3], w->target ? rest[4] : NULL);
    for (int k = 1; k < 5; k++) memmove(places[k], rest[k], bytes);
    w->at = w->count;
}

#endif
