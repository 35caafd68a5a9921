/* One gradient step of one task, in the order of MultiTaskSAC.update: temperature, critics, actor; equations as in
   qmp_sb3/objectives/losses.py. */
#ifndef TASK_STEP_H
#define TASK_STEP_H

#include "policy.h"
#include "workspace.h"

/* A task's part of the update, at one step. */
typedef struct {
    const Update *u;
    Workspace w;
    Network actor;
    int64_t task, step;
    REAL alpha; /* before the step of the temperature */
    double *sums;
} Step;

static Network critic_of(const Step *s, int number, const void *numbers) {
    return network(&s->u->critic, number * s->u->tasks + s->task, numbers);
}

/* What the steps below use, in their order. */
static void expect_all(const Step *s) {
    const Update *u = s->u;
    Ahead *ahead = s->w.ahead;
    for (int k = 0; k < u->critics; k++) {
        Network target = critic_of(s, k, u->critic.target);
        expect_network(ahead, &target, u->critic.target);
    }
    for (int k = 0; k < u->critics; k++) {
        Network critic = critic_of(s, k, u->critic.parameters);
        expect_network(ahead, &critic, u->critic.parameters);
        expect_network(ahead, &critic, u->critic.first_moment);
        expect_network(ahead, &critic, u->critic.second_moment);
    }
    for (int k = 0; k + 1 < u->critics; k++) { /* the last one's numbers were used just now */
        Network critic = critic_of(s, k, u->critic.parameters);
        expect_network(ahead, &critic, u->critic.parameters);
    }
    expect_network(ahead, &s->actor, u->actor.first_moment);
    expect_network(ahead, &s->actor, u->actor.second_moment);
}

/* ---- the batch ---- */

/* (count, ...) numbers of each transition, `stride` apart, to (count, BLOCK). */
static void gather_columns(int count, int lane, const REAL *from, REAL *to) {
    for (int column = 0; column < count; column++) to[column * BLOCK + lane] = from[column];
}

/* One block of the batch and its noise; zeros and counted = 0 where it is only filled. */
static void gather(const Step *s, int block) {
    const Update *u = s->u;
    const Workspace *w = &s->w;
    int features = (int)u->features, actions = (int)u->actions, joined = features + actions;
    const int64_t *rows = u->rows + (s->step * u->tasks + s->task) * u->batch;
    const REAL *noise = (const REAL *)u->noise + (s->step * 2 * u->tasks + s->task) * u->batch * actions;
    const REAL *next_noise = noise + u->tasks * u->batch * actions;
    REAL *own = w->joined + (ptrdiff_t)block * joined * BLOCK, *own_noise = w->noise + block * actions * BLOCK;
    int filled = u->batch - (int64_t)block * BLOCK < BLOCK ? (int)(u->batch - (int64_t)block * BLOCK) : BLOCK;
    if (filled < BLOCK) {
        memset(own, 0, joined * BLOCK * sizeof(REAL));
        memset(w->next, 0, joined * BLOCK * sizeof(REAL));
        memset(own_noise, 0, actions * BLOCK * sizeof(REAL));
        memset(w->next_noise, 0, actions * BLOCK * sizeof(REAL));
        memset(w->rewards, 0, BLOCK * sizeof(REAL));
        memset(w->discounts, 0, BLOCK * sizeof(REAL));
    }
    for (int lane = 0; lane < BLOCK; lane++) {
        w->counted[block * BLOCK + lane] = lane < filled;
        if (lane >= filled) continue;
        int64_t place = (int64_t)block * BLOCK + lane;
        const REAL *row = (const REAL *)u->table + rows[place] * u->width;
        gather_columns(joined, lane, row, own);
        gather_columns(features, lane, row + joined, w->next);
        gather_columns(actions, lane, noise + place * actions, own_noise);
        gather_columns(actions, lane, next_noise + place * actions, w->next_noise);
        w->rewards[lane] = row[u->reward];
        w->discounts[lane] = (REAL)u->gamma * row[u->continuation];
    }
}

/* min_k Q_k of one lane group of the critics' values, NaN if one of them is. */
INLINE vector least_value(const Step *s, int lane) {
    vector least = load(s->w.values + lane);
    for (int k = 1; k < s->u->critics; k++) {
        vector value = load(s->w.values + k * BLOCK + lane);
        least = choose(least == least, smaller(value, least), least);
    }
    return least;
}

/* ---- a ~ pi(.|s), and y = r + gamma (min_k Q'_k(s', a') - alpha log pi(a'|s')) with a' ~ pi(.|s') ---- */

static void actions_and_target(const Step *s, int block) {
    const Update *u = s->u;
    const Workspace *w = &s->w;
    int actions = (int)u->actions, joined = (int)(u->features + u->actions);
    REAL *outputs = w->outputs + block * 2 * actions * BLOCK;

    gather(s, block);
    forward(&s->actor, w->joined + (ptrdiff_t)block * joined * BLOCK, &w->actor, block, outputs);
    sample(
        actions, outputs, w->noise + block * actions * BLOCK, w->chosen + block * actions * BLOCK,
        w->log_prob + block * BLOCK
    );

    forward(&s->actor, w->next, &w->actor, w->blocks, w->next_outputs);
    sample(actions, w->next_outputs, w->next_noise, w->next + u->features * BLOCK, w->next_log_prob);
    for (int k = 0; k < u->critics; k++) {
        Network target = critic_of(s, k, u->critic.target);
        forward(&target, w->next, &w->critic, 0, w->values + k * BLOCK);
    }
    for (int lane = 0; lane < BLOCK; lane += LANES) {
        vector value = least_value(s, lane) - s->alpha * load(w->next_log_prob + lane);
        store(w->targets + block * BLOCK + lane, load(w->rewards + lane) + load(w->discounts + lane) * value);
    }
}

/* ---- J_alpha = -log alpha E (log pi(a|s) + H) ---- */

static void learn_temperature(const Step *s) {
    const Temperatures *t = &s->u->temperatures;
    if (!t->first_moment) return;
    vector total = fill(0);
    for (int place = 0; place < s->w.blocks * BLOCK; place += LANES)
        total += load(s->w.counted + place) * load(s->w.log_prob + place);
    double gradient = -(sum_of(total) / (double)s->u->batch + t->target_entropy);

    REAL *log_alpha = (REAL *)t->values + s->task;
    REAL *m = (REAL *)t->first_moment + s->task, *v = (REAL *)t->second_moment + s->task;
    AdamStep step = adam_step(&t->adam, t->adam.steps + s->step, 0);
    s->sums[0] += *log_alpha * gradient;
    REAL g = (REAL)gradient;
    adam(&step, &(Waiting){.gradient = &g, .p = log_alpha, .m = m, .v = v, .count = 1});
}

/* ---- J_Q = 1/2 E (Q_k(s, a) - y)^2 ---- */

static void learn_critic(const Step *s, int number, const AdamStep *step, int move_target) {
    const Update *u = s->u;
    const Workspace *w = &s->w;
    ptrdiff_t stride = (u->features + u->actions) * BLOCK;
    Network critic = critic_of(s, number, u->critic.parameters);
    REAL weight = (REAL)(u->importance / (double)u->batch);
    vector squares = fill(0);
    for (int block = 0; block < w->blocks; block++) {
        forward(&critic, w->joined + block * stride, &w->critic, block, w->values);
        for (int lane = 0; lane < BLOCK; lane += LANES) {
            int place = block * BLOCK + lane;
            vector error = load(w->counted + place) * (load(w->values + lane) - load(w->targets + place));
            squares += error * error;
            store(w->dvalues + lane, weight * error);
        }
        backward(&critic, w->dvalues, &w->critic, block, block, w->blocks);
    }
    s->sums[1] += 0.5 * sum_of(squares) / (double)u->batch;
    learn(&critic, &u->critic, step, move_target, w->blocks, stride, w->joined, &w->critic);
}

/* ---- J_pi = E (alpha log pi(a|s) - min_k Q_k(s, a)) ---- */

/* -weight dQ/da of one block to daction_sum, where Q is the least of the critics' values; returns the sum of these. */
static vector value_gradient(const Step *s, REAL weight, int block) {
    const Update *u = s->u;
    const Workspace *w = &s->w;
    int features = (int)u->features, joined = (int)(u->features + u->actions);
    REAL *inputs = w->joined + (ptrdiff_t)block * joined * BLOCK;
    size_t action_bytes = u->actions * BLOCK * sizeof(REAL);
    vector total = fill(0);

    memcpy(inputs + features * BLOCK, w->chosen + block * u->actions * BLOCK, action_bytes);
    for (int k = 0; k < u->critics; k++) {
        Network critic = critic_of(s, k, u->critic.parameters);
        forward(&critic, inputs, &w->critic, k, w->values + k * BLOCK);
    }
    memset(w->daction_sum, 0, action_bytes);
    for (int k = 0; k < u->critics; k++) {
        Network critic = critic_of(s, k, u->critic.parameters);
        for (int lane = 0; lane < BLOCK; lane += LANES) {
            vector least = least_value(s, lane), sharing = fill(0); /* equal values share the gradient */
            for (int j = 0; j < u->critics; j++) sharing += keep(load(w->values + j * BLOCK + lane) == least, fill(1));
            vector counted = load(w->counted + block * BLOCK + lane);
            store(w->dvalues + lane, keep(load(w->values + k * BLOCK + lane) == least, -weight * counted / sharing));
            if (k == 0) total += counted * least;
        }
        const REAL *gradient = backward(&critic, w->dvalues, &w->critic, k, 0, 0);
        input_gradient(
            features, joined, critic.widths[1], critic.numbers + critic.weights[0], LINEAR, inputs, gradient, w->dinputs,
            w->ahead
        );
        for (int place = 0; place < u->actions * BLOCK; place += LANES)
            store(w->daction_sum + place, load(w->daction_sum + place) + load(w->dinputs + features * BLOCK + place));
    }
    return total;
}

static void learn_actor(const Step *s, const AdamStep *step) {
    const Update *u = s->u;
    const Workspace *w = &s->w;
    int actions = (int)u->actions;
    REAL weight = (REAL)(u->importance / (double)u->batch), weighted_alpha[BLOCK];
    vector loss = fill(0);
    for (int block = 0; block < w->blocks; block++) {
        loss -= value_gradient(s, weight, block);
        for (int lane = 0; lane < BLOCK; lane += LANES) {
            vector counted = load(w->counted + block * BLOCK + lane);
            loss += counted * s->alpha * load(w->log_prob + block * BLOCK + lane);
            store(weighted_alpha + lane, counted * weight * s->alpha);
        }
        sample_gradient(
            actions, w->outputs + block * 2 * actions * BLOCK, w->noise + block * actions * BLOCK,
            w->chosen + block * actions * BLOCK, weighted_alpha, w->daction_sum, w->doutputs
        );
        backward(&s->actor, w->doutputs, &w->actor, block, block, w->blocks);
    }
    s->sums[2] += sum_of(loss) / (double)u->batch;
    learn(&s->actor, &u->actor, step, 0, w->blocks, (u->features + actions) * BLOCK, w->joined, &w->actor);
}

static void step_of_task(const Update *u, const Workspace *w, int64_t task, int64_t step) {
    REAL known = ((const REAL *)u->temperatures.values)[task];
    Step s = {
        .u = u,
        .w = *w,
        .actor = network(&u->actor, task, u->actor.parameters),
        .task = task,
        .step = step,
        .alpha = u->temperatures.first_moment ? (REAL)exp(known) : known,
        .sums = u->sums + 4 * task,
    };
    AdamStep critic_step = adam_step(&u->critic.adam, u->critic.adam.steps + step, u->tau);
    AdamStep actor_step = adam_step(&u->actor.adam, u->actor.adam.steps + step, 0);
    int move_target = (u->steps_before + step) % u->target_interval == 0;

    expect_all(&s);
    for (int block = 0; block < w->blocks; block++) actions_and_target(&s, block);
    learn_temperature(&s);
    for (int k = 0; k < u->critics; k++) learn_critic(&s, k, &critic_step, move_target);
    learn_actor(&s, &actor_step);
    s.sums[3] += s.alpha;
}

#endif
