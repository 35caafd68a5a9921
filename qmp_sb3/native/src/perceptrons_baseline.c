#define VECTOR_BYTES 16
#define ANSWER_NETWORK answer_network_baseline
#define SAMPLE_ACTIONS sample_actions_baseline
#include "perceptrons_variant.h"
