#ifdef __x86_64__
#define REAL_IS_FLOAT 1
#define VECTOR_BYTES 32
#define KERNELS avx2_float
#include "kernels_body.h"
#endif
