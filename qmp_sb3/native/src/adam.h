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

/* One step of `count` neighbors in memory; `target` follows them, unless it is NULL. */
static void adam(const AdamStep *step, int64_t count, const REAL *gradient, REAL *p, REAL *m, REAL *v, REAL *target) {
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES)
        adam_vector(step, gradient + at, p + at, m + at, v + at, target ? target + at : NULL);
    if (at == count) return;
    REAL rest[5][LANES] = {0};
    REAL *places[5] = {(REAL *)gradient + at, p + at, m + at, v + at, target ? target + at : rest[4]};
    size_t bytes = (count - at) * sizeof(REAL);
    for (int k = 0; k < 5; k++) memcpy(rest[k], places[k], bytes);
    adam_vector(step, rest[0], rest[1], rest[2], rest[3], target ? rest[4] : NULL);
    for (int k = 1; k < 5; k++) memcpy(places[k], rest[k], bytes);
}

#endif
