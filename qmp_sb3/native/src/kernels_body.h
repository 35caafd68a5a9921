/* The text of a variant; the file that includes it says REAL_IS_FLOAT, VECTOR_BYTES and KERNELS, its name. */
#include "kernels.h"
#include "task_step.h"

static size_t workspace_bytes(const Update *u) {
    Arena arena = {0};
    workspace(u, &arena);
    return arena.used * sizeof(REAL);
}

static void steps_of_task(const Update *u, void *memory, int64_t task, int64_t first, int64_t last) {
    Arena arena = {.memory = memory};
    Workspace w = workspace(u, &arena);
    for (int64_t step = first; step < last; step++) step_of_task(u, &w, task, step);
}

const Kernels KERNELS = {workspace_bytes, steps_of_task};

#if defined(__x86_64__) && defined(__clang__) && VECTOR_BYTES > 16
#pragma clang attribute pop
#endif
