/* The update of all tasks: threads take tasks from a queue, a few steps at a time. */
#include "update.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "export.h"
#include "kernels.h"
#include "pool.h"
#include "processor.h"

/* Indexed by instruction set and is_float. */
static const Kernels *const VARIANTS[INSTRUCTION_SETS][2] = {
    [BASELINE] = {&baseline_double, &baseline_float},
#if defined(__x86_64__)
    [AVX2] = {&avx2_double, &avx2_float},
    [AVX512] = {&avx512_double, &avx512_float},
#endif
};

/* A unit of work is a chunk of a task's steps. Units are taken chunk by chunk, in each all tasks: whoever takes a task's
   second chunk waits for its first one, which somebody is at by then. */
typedef struct {
    const Update *u;
    const Kernels *kernels;
    char *memory;
    size_t memory_bytes; /* of one thread */
    int64_t chunk_steps, units;
    atomic_llong next;
    atomic_llong *done; /* (tasks,) steps */
} Job;

static void work(void *shared, int worker) {
    Job *job = shared;
    for (int64_t unit; (unit = atomic_fetch_add(&job->next, 1)) < job->units;) {
        int64_t task = unit % job->u->tasks, first = unit / job->u->tasks * job->chunk_steps;
        int64_t last = first + job->chunk_steps < job->u->steps ? first + job->chunk_steps : job->u->steps;
        for (unsigned waited = 1; atomic_load(&job->done[task]) < first; waited++) {
            pool_pause();
            if (waited % 1024 == 0) sched_yield();
        }
        job->kernels->steps_of_task(job->u, job->memory + worker * job->memory_bytes, task, first, last);
        atomic_store(&job->done[task], last);
    }
}

/* Units for each thread: enough that all end at about the same time, few enough that a task's numbers stay in the cache
   of one processor for some steps. */
enum { UNITS_PER_THREAD = 5 };

static int64_t chunks_of(const Update *u) {
    if (u->threads <= 1 || u->tasks % u->threads == 0) return 1;
    int64_t wanted = (UNITS_PER_THREAD * u->threads + u->tasks - 1) / u->tasks;
    return wanted < u->steps ? wanted : u->steps;
}

/* Sizes of structures tell Python whether a library was built from the sources beside it. */
EXPORT int64_t update_bytes(void) { return sizeof(Update); }

EXPORT uint64_t fingerprint(void) { return FINGERPRINT; }

/* Bytes of memory that each thread works in. */
EXPORT int64_t update_memory_bytes(const Update *u) {
    return (int64_t)VARIANTS[u->instruction_set][u->is_float]->workspace_bytes(u);
}

/* All steps of all tasks; memory: (threads, update_memory_bytes), aligned to 64 bytes. Returns 0, or -1 without memory. */
EXPORT int update_run(const Update *u, void *memory) {
    if (!u->steps) return 0;
    int64_t chunks = chunks_of(u);
    Job job = {
        .u = u,
        .kernels = VARIANTS[u->instruction_set][u->is_float],
        .memory = memory,
        .memory_bytes = (size_t)update_memory_bytes(u),
        .chunk_steps = (u->steps + chunks - 1) / chunks,
        .done = calloc(u->tasks, sizeof(atomic_llong)),
    };
    if (!job.done) return -1;
    job.units = (u->steps + job.chunk_steps - 1) / job.chunk_steps * u->tasks;
    pool_run((int)(u->threads < u->tasks ? u->threads : u->tasks), work, &job);
    free(job.done);
    return 0;
}
