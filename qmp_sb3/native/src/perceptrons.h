/* Rows through stacked perceptrons without gradients: what choosing an action needs.

   A stack holds `tasks` networks of each of `copies` copies, copy by copy; weights are (networks, in, out), row-major,
   and biases (networks, out). */
#ifndef PERCEPTRONS_H
#define PERCEPTRONS_H

#include <stdint.h>

enum { LINEAR, RELU, TANH }; /* as in qmp_sb3/native/structures.py */
enum { MAX_LAYERS = 16 };

struct perceptrons {
    int32_t tasks, layers, activation, unused;
    int64_t widths[MAX_LAYERS + 1]; /* of the input, the hidden layers and the output */
    const float *weights[MAX_LAYERS], *biases[MAX_LAYERS];
};

/* One call: which rows go through which network, and where the results belong.

   Without `order`, every network reads all rows, and out is (networks, rows, candidates, width of the output).
   With it, task t reads the rows order[first[t]] ... order[first[t + 1] - 1], and out is (copies, rows, ...).
   With candidates, a network's input is a row followed by one of that row's candidates. */
struct question {
    const float *inputs; /* (rows, width) */
    const float *candidates; /* (rows, count, candidate_width), or NULL: then count is 1 and candidate_width 0 */
    const int64_t *order, *first; /* (rows), (tasks + 1) or both NULL */
    float *out;
    float *means; /* of policies without `order`: tanh of the output's first half, (rows, networks, half); or NULL */
    float *scratch; /* (threads, scratch_size()) */
    int64_t rows, count, candidate_width, networks, scratch_size;
};

/* One action of each row: tanh(mean + e^log_std noise). */
struct sample {
    const float *outputs; /* mean and log_std side by side, (tasks, rows, 2 size), or (rows, 2 size) without `chosen` */
    const int64_t *chosen; /* whose action, (rows), or NULL */
    const float *noise; /* (rows, size) */
    float *actions; /* (rows, size) */
    int64_t rows, size;
};

enum { LOG_STD_MIN = -20, LOG_STD_MAX = 2 }; /* as in distributions.py */

typedef void (*answer_network)(const struct perceptrons *, const struct question *, int64_t network, float *scratch);

typedef void (*sample_actions)(const struct sample *);

void answer_network_baseline(const struct perceptrons *, const struct question *, int64_t, float *);
void sample_actions_baseline(const struct sample *);
#if defined(__x86_64__)
void answer_network_avx2(const struct perceptrons *, const struct question *, int64_t, float *);
void sample_actions_avx2(const struct sample *);
void answer_network_avx512(const struct perceptrons *, const struct question *, int64_t, float *);
void sample_actions_avx512(const struct sample *);
#endif

enum { ROWS_AT_ONCE = 60 }; /* of one network; the activations between its layers stay in the nearest cache */

/* The width of a layer in scratch memory, where every row is a whole number of vectors. */
static inline int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }

#endif
