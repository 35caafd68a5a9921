#ifdef __x86_64__
#define REAL_IS_FLOAT 1
#define VECTOR_BYTES 64
#define KERNELS avx512_float
#include "kernels_body.h"
#endif
