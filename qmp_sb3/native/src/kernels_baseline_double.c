#define REAL_IS_FLOAT 0
#define VECTOR_BYTES 16
#define KERNELS baseline_double
#include "kernels_body.h"
