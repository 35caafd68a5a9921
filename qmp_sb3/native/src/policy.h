/* The squashed Gaussian of SAC (Haarnoja et al., 2018, appendix C), as in qmp_sb3/policies/action_heads.py. */
#ifndef POLICY_H
#define POLICY_H

#include "elementary.h"

static const REAL LOG_STD_MIN = -20, LOG_STD_MAX = 2, SQUASH_EPSILON = (REAL)1e-6;
static const REAL HALF_LOG_TWO_PI = (REAL)0.91893853320467274178;

/* a = tanh(mean + std noise) and log pi(a|s) of one block.

   outputs: (2 actions, BLOCK), means and then log standard deviations as the network gives them
   noise: (actions, BLOCK)
   chosen: (actions, BLOCK)
   log_prob: (BLOCK,) */
static void sample(int actions, const REAL *outputs, const REAL *noise, REAL *chosen, REAL *log_prob) {
    for (int lane = 0; lane < BLOCK; lane += LANES) {
        vector total = fill(0);
        for (int action = 0; action < actions; action++) {
            ptrdiff_t place = action * BLOCK + lane;
            vector log_std = load(outputs + actions * BLOCK + place), n = load(noise + place);
            log_std = larger(smaller(log_std, fill(LOG_STD_MAX)), fill(LOG_STD_MIN));
            vector a = hyperbolic_tangent(load(outputs + place) + exponential(log_std) * n);
            store(chosen + place, a);
            total += (REAL)-0.5 * n * n - log_std - HALF_LOG_TWO_PI - logarithm(1 - a * a + SQUASH_EPSILON);
        }
        store(log_prob + lane, total);
    }
}

/* The gradient of weight * (alpha log pi(a|s) - Q(s, a)) with respect to the network's outputs, one block.

   weighted_alpha: weight * alpha, zero in lanes that only fill the block, (BLOCK,)
   dactions: -weight * dQ/da, (actions, BLOCK)
   doutputs: (2 actions, BLOCK) */
static void sample_gradient(
    int actions, const REAL *outputs, const REAL *noise, const REAL *chosen, const REAL *weighted_alpha,
    const REAL *dactions, REAL *doutputs
) {
    for (int lane = 0; lane < BLOCK; lane += LANES) {
        vector weight = load(weighted_alpha + lane);
        for (int action = 0; action < actions; action++) {
            ptrdiff_t place = action * BLOCK + lane, deviation = actions * BLOCK + place;
            vector raw = load(outputs + deviation), a = load(chosen + place);
            vector slope = 1 - a * a;
            vector dmean = (load(dactions + place) + weight * 2 * a / (slope + SQUASH_EPSILON)) * slope;
            vector dlog_std = dmean * exponential(raw) * load(noise + place) - weight;
            store(doutputs + place, dmean);
            store(doutputs + deviation, keep((raw >= LOG_STD_MIN) & (raw <= LOG_STD_MAX), dlog_std));
        }
    }
}

#endif
