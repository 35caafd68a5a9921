#include "perceptrons.h"

#include <stdatomic.h>

#include "export.h"
#include "flush_to_zero.h"
#include "pool.h"
#include "processor.h"

struct shared {
    const struct perceptrons *perceptrons;
    const struct question *question;
    answer_network answer;
    atomic_long next; /* network that nobody works on yet */
};

static void work(void *argument, int worker) {
    struct shared *shared = argument;
    const struct question *question = shared->question;
    float *scratch = question->scratch + worker * question->scratch_size;
    for (;;) {
        int64_t network = atomic_fetch_add(&shared->next, 1);
        if (network >= question->networks) return;
        shared->answer(shared->perceptrons, question, network, scratch);
    }
}

/* As update_bytes(). */
EXPORT int64_t perceptrons_bytes(void) { return sizeof(struct perceptrons); }
EXPORT int64_t question_bytes(void) { return sizeof(struct question); }
EXPORT int64_t sample_bytes(void) { return sizeof(struct sample); }

/* Numbers of scratch memory that one thread needs. */
EXPORT int64_t perceptrons_scratch(const struct perceptrons *perceptrons) {
    int64_t widest = 0;
    for (int layer = 0; layer <= perceptrons->layers; layer++)
        if (padded(perceptrons->widths[layer]) > widest) widest = padded(perceptrons->widths[layer]);
    return 4 * ROWS_AT_ONCE * widest;
}

/* Put a question to the networks of a stack; the tasks are divided among the threads. */
EXPORT void perceptrons_answer(
    const struct perceptrons *perceptrons, const struct question *question, int32_t threads, int32_t instructions) {
    static const answer_network variants[INSTRUCTION_SETS] = {
        answer_network_baseline,
#if defined(__x86_64__)
        answer_network_avx2,
        answer_network_avx512,
#endif
    };
    struct shared shared = {perceptrons, question, variants[instructions], 0};
    pool_run(threads, work, &shared);
}

EXPORT void perceptrons_sample(const struct sample *sample, int32_t instructions) {
    static const sample_actions variants[INSTRUCTION_SETS] = {
        sample_actions_baseline,
#if defined(__x86_64__)
        sample_actions_avx2,
        sample_actions_avx512,
#endif
    };
    uint64_t before = flush_to_zero();
    variants[instructions](sample);
    restore_denormals(before);
}
