/* One variant of answer_network(), under the name ANSWER_NETWORK. The vectors lie over a layer's outputs, since rows
   are few: the weights are then read once, in the order in which they lie in memory. */
#define REAL_IS_FLOAT 1
#include "vector.h"

#include "elementary.h"
#include "perceptrons.h"

/* Tiles of the product: rows times vectors that stay in registers while they are summed up. */
#if VECTOR_BYTES == 64
enum { WIDE = 4, WIDE_ROWS = 6, NARROW_ROWS = 12 };
#else
enum { WIDE = 2, WIDE_ROWS = 4, NARROW_ROWS = 8 };
#endif
/* Rows of the weights that are used for all tiles before the next ones, which are fetched meanwhile: with few rows the
   product takes as long as reading the weights does, with many it should not store its sums too often. */
enum { SHALLOW = 16, DEEP = 32 };

/* y[m][n] += sum_k x[m][k] w[k][n] for m < rows and n < vectors. `rows`, `vectors` and `fetch`, whether to fetch the
   next rows of the weights, are constants of each call. */
INLINE void tile(const int rows, const int vectors, const int fetch, int64_t depth, float *y, int64_t y_step, const float *x,
                 int64_t x_step, const float *w, int64_t w_step) {
    vector sums[12][4];
#pragma GCC unroll 12
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) sums[m][n] = load(y + m * y_step + n * LANES);
    for (int64_t k = 0; k < depth; k++) {
        vector weights[4];
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) {
            weights[n] = load(w + k * w_step + n * LANES);
            if (fetch) __builtin_prefetch(w + (k + depth) * w_step + n * LANES);
        }
#pragma GCC unroll 12
        for (int m = 0; m < rows; m++) {
            vector value = fill(x[m * x_step + k]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) sums[m][n] += value * weights[n];
        }
    }
#pragma GCC unroll 12
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) store(y + m * y_step + n * LANES, sums[m][n]);
}

#define ARGUMENTS int64_t depth, float *y, int64_t y_step, const float *x, int64_t x_step, const float *w, int64_t w_step
#define PASSED depth, y, y_step, x, x_step, w, w_step

static void wide_tile(int rows, int fetch, ARGUMENTS) {
#define CASE(count)                                        \
    case count:                                            \
        if (fetch) tile(count, WIDE, 1, PASSED);           \
        else tile(count, WIDE, 0, PASSED);                 \
        return;
    switch (rows) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
#if VECTOR_BYTES == 64
        CASE(5)
        CASE(6)
#endif
    }
#undef CASE
}

static void narrow_tile(int rows, ARGUMENTS) {
    while (rows >= 4) {
        int some = rows >= NARROW_ROWS ? NARROW_ROWS : 4;
        if (some == NARROW_ROWS) tile(NARROW_ROWS, 1, 0, PASSED);
        else tile(4, 1, 0, PASSED);
        rows -= some, y += some * y_step, x += some * x_step;
    }
    for (; rows > 0; rows--, y += y_step, x += x_step) tile(1, 1, 0, PASSED);
}

/* y (rows, outs) += x (rows, ins) w (ins, outs); y has room for whole vectors, whose last lanes hold anything after. */
static void add_product(int rows, int64_t ins, int64_t outs, float *y, int64_t y_step, const float *x, int64_t x_step,
                        const float *w) {
    int groups = (rows + WIDE_ROWS - 1) / WIDE_ROWS;
    int64_t step = groups > 2 ? DEEP : SHALLOW;
    for (int64_t k = 0; k < ins; k += step) {
        int64_t depth = ins - k < step ? ins - k : step;
        const float *block = w + k * outs;
        int64_t n = 0;
        for (; n + WIDE * LANES <= outs; n += WIDE * LANES)
            for (int group = 0, m = 0; group < groups; group++) { /* of even size */
                int some = (rows - m) / (groups - group);
                wide_tile(some, group == 0, depth, y + m * y_step + n, y_step, x + m * x_step + k, x_step, block + n, outs);
                m += some;
            }
        for (; n < outs; n += LANES) {
            /* A vector that goes beyond its row reads the next row's numbers, of which the last rows have none. */
            int64_t whole = depth;
            while (whole > 0 && (k + whole - 1) * outs + n + LANES > ins * outs) whole--;
            narrow_tile(rows, whole, y + n, y_step, x + k, x_step, block + n, outs);
            for (int64_t last = whole; last < depth; last++) {
                float row[LANES] = {0};
                memcpy(row, block + last * outs + n, (outs - n < LANES ? outs - n : LANES) * sizeof(float));
                narrow_tile(rows, 1, y + n, y_step, x + k + last, x_step, row, LANES);
            }
        }
    }
}

/* The same for a single output: a sum along the weights. */
static void add_dot_product(int rows, int64_t ins, float *y, int64_t y_step, const float *x, int64_t x_step,
                            const float *w) {
    for (int m = 0; m < rows; m++, y += y_step, x += x_step) {
        vector sums = {0};
        int64_t k = 0;
        for (; k + LANES <= ins; k += LANES) sums += load(x + k) * load(w + k);
        float sum = sum_of(sums);
        for (; k < ins; k++) sum += x[k] * w[k];
        *y += sum;
    }
}

static void add_layer(int rows, int64_t ins, int64_t outs, float *y, int64_t y_step, const float *x, int64_t x_step,
                      const float *w) {
    if (outs == 1) add_dot_product(rows, ins, y, y_step, x, x_step, w);
    else add_product(rows, ins, outs, y, y_step, x, x_step, w);
}

/* Both leave alone what is not a number. */
static void relu(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) values[i] = values[i] < 0 ? 0 : values[i];
}

/* `count` is a whole number of vectors. */
static void tanh_all(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) {
        vector x = load(values + i);
        store(values + i, choose(x == x, hyperbolic_tangent(x), x));
    }
}

/* to = tanh(from), of any number of numbers. */
static void squash(int count, float *to, const float *from) {
    for (int i = 0; i < count; i += LANES) {
        float some[LANES] = {0};
        size_t bytes = (count - i < LANES ? count - i : LANES) * sizeof(float);
        memcpy(some, from + i, bytes);
        tanh_all(some, LANES);
        memcpy(to + i, some, bytes);
    }
}

static void repeat_bias(int64_t rows, int64_t width, float *y, int64_t y_step, const float *bias) {
    for (int64_t m = 0; m < rows; m++) memcpy(y + m * y_step, bias, width * sizeof(float));
}

/* The first layer of inputs first ... first + rows - 1, which are counted candidate by candidate: W [s, a] is
   W_s s, once for each state s, plus W_a a for each of its candidates a. */
static void first_layer(const struct perceptrons *perceptrons, const struct question *question, int64_t network,
                        const int64_t *order, int64_t first, int rows, float *y, float *gathered, float *by_state) {
    int64_t count = question->count, actions = question->candidate_width;
    int64_t states = perceptrons->widths[0] - actions, outs = perceptrons->widths[1], y_step = padded(outs);
    const float *w = perceptrons->weights[0] + network * perceptrons->widths[0] * outs;
    const float *bias = perceptrons->biases[0] + network * outs;
    int64_t from = first / count, different = (first + rows - 1) / count - from + 1;
    float *sums = actions ? by_state : y; /* (different, outs) */
    for (int64_t s = 0; s < different; s++) {
        int64_t row = order ? order[from + s] : from + s;
        memcpy(gathered + s * states, question->inputs + row * states, states * sizeof(float));
    }
    repeat_bias(different, outs, sums, y_step, bias);
    add_layer((int)different, states, outs, sums, y_step, gathered, states, w);
    if (!actions) return;
    for (int m = 0; m < rows; m++) {
        int64_t input = first + m, s = input / count - from, row = order ? order[from + s] : from + s;
        memcpy(y + m * y_step, by_state + s * y_step, outs * sizeof(float));
        memcpy(gathered + m * actions, question->candidates + (row * count + input % count) * actions,
               actions * sizeof(float));
    }
    add_layer(rows, actions, outs, y, y_step, gathered, actions, w + states * outs);
}

void ANSWER_NETWORK(
    const struct perceptrons *perceptrons, const struct question *question, int64_t network, float *scratch) {
    int layers = perceptrons->layers;
    int64_t task = network % perceptrons->tasks, copy = network / perceptrons->tasks, count = question->count;
    int64_t mine = question->rows, block = network;
    const int64_t *order = NULL;
    if (question->order) {
        order = question->order + question->first[task];
        mine = question->first[task + 1] - question->first[task];
        block = copy;
    }
    int64_t width = perceptrons->widths[layers];
    float *out = question->out + block * question->rows * count * width;
    int64_t quarter = question->scratch_size / 4;
    float *gathered = scratch + 2 * quarter, *by_state = scratch + 3 * quarter;
    for (int64_t first = 0; first < mine * count; first += ROWS_AT_ONCE) {
        int rows = mine * count - first < ROWS_AT_ONCE ? (int)(mine * count - first) : ROWS_AT_ONCE;
        float *x = scratch, *y = scratch + quarter;
        first_layer(perceptrons, question, network, order, first, rows, x, gathered, by_state);
        for (int layer = 1; layer < layers; layer++) {
            int64_t ins = perceptrons->widths[layer], outs = perceptrons->widths[layer + 1];
            if (perceptrons->activation == TANH) tanh_all(x, rows * padded(ins));
            else relu(x, rows * padded(ins));
            repeat_bias(rows, outs, y, padded(outs), perceptrons->biases[layer] + network * outs);
            add_layer(rows, ins, outs, y, padded(outs), x, padded(ins),
                      perceptrons->weights[layer] + network * ins * outs);
            float *read = x;
            x = y, y = read;
        }
        for (int m = 0; m < rows; m++) {
            int64_t input = first + m, row = order ? order[input / count] : input / count;
            const float *result = x + m * padded(width);
            memcpy(out + (row * count + input % count) * width, result, width * sizeof(float));
            if (question->means)
                squash((int)width / 2, question->means + (row * question->networks + network) * (width / 2), result);
        }
    }
}

void SAMPLE_ACTIONS(const struct sample *sample) {
    int64_t size = sample->size;
    for (int64_t row = 0; row < sample->rows; row++) {
        int64_t place = (sample->chosen ? sample->chosen[row] * sample->rows : 0) + row;
        const float *mean = sample->outputs + place * 2 * size, *log_std = mean + size, *noise = sample->noise + row * size;
        for (int64_t i = 0; i < size; i += LANES) {
            float means[LANES] = {0}, log_stds[LANES] = {0}, noises[LANES] = {0};
            size_t bytes = (size - i < LANES ? size - i : LANES) * sizeof(float);
            memcpy(means, mean + i, bytes);
            memcpy(log_stds, log_std + i, bytes);
            memcpy(noises, noise + i, bytes);
            vector x = load(log_stds), clamped = smaller(larger(x, fill(LOG_STD_MIN)), fill(LOG_STD_MAX));
            vector std = choose(x == x, exponential(clamped), x);
            store(means, load(means) + std * load(noises));
            tanh_all(means, LANES);
            memcpy(sample->actions + row * size + i, means, bytes);
        }
    }
}
