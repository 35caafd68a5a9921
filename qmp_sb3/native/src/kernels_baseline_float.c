#define REAL_IS_FLOAT 1
#define VECTOR_BYTES 16
#define KERNELS baseline_float
#include "kernels_body.h"
