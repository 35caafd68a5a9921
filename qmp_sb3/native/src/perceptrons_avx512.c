#if defined(__x86_64__)
#define VECTOR_BYTES 64
#define ANSWER_NETWORK answer_network_avx512
#define SAMPLE_ACTIONS sample_actions_avx512
#include "perceptrons_variant.h"
#endif
