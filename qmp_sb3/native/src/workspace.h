/* The memory that one thread works in while it updates a task. */
#ifndef WORKSPACE_H
#define WORKSPACE_H

#include "network.h"

typedef struct {
    int blocks;            /* of a batch */
    REAL *joined;          /* (blocks, features + actions, BLOCK): s and a */
    REAL *next;            /* (features + actions, BLOCK): s' and a' of one block */
    REAL *noise;           /* (blocks, actions, BLOCK), for the actions at s */
    REAL *next_noise;      /* (actions, BLOCK), for those at s' */
    REAL *rewards;         /* (BLOCK,) */
    REAL *discounts;       /* (BLOCK,) */
    REAL *counted;         /* (blocks, BLOCK): 1, or 0 in lanes that only fill the last block */
    REAL *outputs;         /* (blocks, 2 actions, BLOCK) of the policy at s */
    REAL *next_outputs;    /* (2 actions, BLOCK), at s' of one block */
    REAL *chosen;          /* (blocks, actions, BLOCK) */
    REAL *log_prob;        /* (blocks, BLOCK) of the chosen */
    REAL *next_log_prob;   /* (BLOCK,) */
    REAL *targets;         /* (blocks, BLOCK): y */
    REAL *values;          /* (critics, BLOCK) */
    REAL *dvalues;         /* (1, BLOCK), with room for LANES rows */
    REAL *daction_sum;     /* (actions, BLOCK) */
    REAL *dinputs;         /* (features + actions, BLOCK) */
    REAL *doutputs;        /* (2 actions, BLOCK), with room up to a multiple of LANES rows */
    Trace actor, critic;
    Ahead *ahead;
} Workspace;

/* Hands out pieces of memory; with none, it only counts. */
typedef struct {
    REAL *memory;
    size_t used;
} Arena;

static REAL *take(Arena *arena, size_t count) {
    REAL *piece = arena->memory ? arena->memory + arena->used : NULL;
    arena->used += (count + BLOCK - 1) / BLOCK * BLOCK; /* every piece begins at a full vector */
    return piece;
}

static size_t rounded_up(size_t count, size_t to) { return (count + to - 1) / to * to; }

static void take_hidden(Arena *arena, const Networks *stack, size_t slots, Trace *trace) {
    for (int l = 0; l < stack->layers - 1; l++) trace->hidden[l] = take(arena, slots * stack->widths[l + 1] * BLOCK);
}

/* What actor and critics can use in turn. */
static void take_shared(Arena *arena, const Update *u, size_t blocks, Trace *trace) {
    size_t widest = 0;
    for (int l = 0; l < MAX_LAYERS; l++) {
        size_t width = 0;
        if (l < u->actor.layers) width = u->actor.widths[l + 1];
        if (l < u->critic.layers && width < (size_t)u->critic.widths[l + 1]) width = u->critic.widths[l + 1];
        if (width > widest) widest = width;
        trace->panels[l] = take(arena, panels_of((int)width) * blocks * BLOCK * BLOCK);
    }
    for (int k = 0; k < 2; k++) {
        trace->gradients[k] = take(arena, rounded_up(widest, LANES) * BLOCK);
        trace->strips[k] = take(arena, ROWS * widest);
    }
    trace->ahead = (Ahead *)take(arena, rounded_up(sizeof(Ahead), sizeof(REAL)) / sizeof(REAL));
    if (trace->ahead) *trace->ahead = (Ahead){0};
}

static Workspace workspace(const Update *u, Arena *arena) {
    size_t blocks = (u->batch + BLOCK - 1) / BLOCK, joined = u->features + u->actions;
    Workspace w = {.blocks = (int)blocks};
    w.joined = take(arena, blocks * joined * BLOCK);
    w.next = take(arena, joined * BLOCK);
    w.noise = take(arena, blocks * u->actions * BLOCK);
    w.next_noise = take(arena, u->actions * BLOCK);
    w.rewards = take(arena, BLOCK);
    w.discounts = take(arena, BLOCK);
    w.counted = take(arena, blocks * BLOCK);
    w.outputs = take(arena, blocks * 2 * u->actions * BLOCK);
    w.next_outputs = take(arena, 2 * u->actions * BLOCK);
    w.chosen = take(arena, blocks * u->actions * BLOCK);
    w.log_prob = take(arena, blocks * BLOCK);
    w.next_log_prob = take(arena, BLOCK);
    w.targets = take(arena, blocks * BLOCK);
    w.values = take(arena, u->critics * BLOCK);
    w.dvalues = take(arena, LANES * BLOCK);
    w.daction_sum = take(arena, u->actions * BLOCK);
    w.dinputs = take(arena, joined * BLOCK);
    w.doutputs = take(arena, rounded_up(2 * u->actions, LANES) * BLOCK);
    take_hidden(arena, &u->actor, blocks + 1, &w.actor); /* one slot more, for a block of s' */
    /* A critic needs a slot for each block while it learns; while the actor learns, each critic needs one. */
    take_hidden(arena, &u->critic, blocks > (size_t)u->critics ? blocks : (size_t)u->critics, &w.critic);
    Trace shared = {0};
    take_shared(arena, u, blocks, &shared);
    for (int k = 0; k < 2; k++) {
        Trace *trace = k ? &w.critic : &w.actor, own = *trace;
        *trace = shared;
        memcpy(trace->hidden, own.hidden, sizeof own.hidden);
    }
    w.ahead = shared.ahead;
    return w;
}

#endif
