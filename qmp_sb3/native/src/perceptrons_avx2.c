#if defined(__x86_64__)
#define VECTOR_BYTES 32
#define ANSWER_NETWORK answer_network_avx2
#define SAMPLE_ACTIONS sample_actions_avx2
#include "perceptrons_variant.h"
#endif
