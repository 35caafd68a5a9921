/* The variants of the update: one per number type and instruction set, each compiled from the same text. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>

#include "update.h"

typedef struct {
    size_t (*workspace_bytes)(const Update *u);
    /* Steps first <= step < last of one task, in the memory of one thread. */
    void (*steps_of_task)(const Update *u, void *memory, int64_t task, int64_t first, int64_t last);
} Kernels;

extern const Kernels baseline_float, baseline_double, avx2_float, avx2_double, avx512_float, avx512_double;

#endif
