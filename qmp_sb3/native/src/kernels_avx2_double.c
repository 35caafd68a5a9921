#ifdef __x86_64__
#define REAL_IS_FLOAT 0
#define VECTOR_BYTES 32
#define KERNELS avx2_double
#include "kernels_body.h"
#endif
