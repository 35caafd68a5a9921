/* Vectors of REAL, VECTOR_BYTES wide: the file that includes this first says REAL_IS_FLOAT and VECTOR_BYTES, and then
   everything here and in the headers that build on it is compiled for that type and for the instruction set which has
   such vectors.

   LANES numbers are a vector. BLOCK numbers, two vectors, lie side by side in all arrays that products are made of. */
#ifndef VECTOR_H
#define VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__clang__) && VECTOR_BYTES == 64
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx2,fma"))), apply_to = function)
#elif defined(__x86_64__) && defined(__clang__) && VECTOR_BYTES == 32
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(__x86_64__) && VECTOR_BYTES == 64
#pragma GCC target("avx512f,avx512dq,avx2,fma,prefer-vector-width=512")
#elif defined(__x86_64__) && VECTOR_BYTES == 32
#pragma GCC target("avx2,fma")
#endif

#define INLINE static inline __attribute__((always_inline))

#if REAL_IS_FLOAT
#define REAL float
#define LANES (VECTOR_BYTES / 4)
typedef int32_t integer;
#else
#define REAL double
#define LANES (VECTOR_BYTES / 8)
typedef int64_t integer;
#endif
#define BLOCK (2 * LANES)

/* A comparison of vectors gives integers as wide as REAL, all ones where it is true: masks. */
typedef REAL vector __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL unaligned_vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef integer mask __attribute__((vector_size(VECTOR_BYTES)));

INLINE vector load(const REAL *from) { return *(const unaligned_vector *)from; }

INLINE void store(REAL *to, vector value) { *(unaligned_vector *)to = value; }

/* Written so that compilers read the number from memory into all lanes at once: the other ways to say it cost products
   up to half of their speed. */
INLINE vector fill(REAL value) { return value - (vector){0}; }

INLINE vector keep(mask where, vector value) { return (vector)((mask)value & where); }

INLINE vector choose(mask where, vector then, vector otherwise) {
    return (vector)(((mask)then & where) | ((mask)otherwise & ~where));
}

/* A value beyond its bound becomes the bound; NaN stays NaN, so that a run that has diverged is seen to have. */
INLINE vector smaller(vector value, vector bound) { return choose(value > bound, bound, value); }

INLINE vector larger(vector value, vector bound) { return choose(value < bound, bound, value); }

INLINE vector square_root(vector x) {
    vector root;
    for (int lane = 0; lane < LANES; lane++) root[lane] = REAL_IS_FLOAT ? (REAL)sqrtf((float)x[lane]) : (REAL)sqrt(x[lane]);
    return root;
}

INLINE REAL sum_of(vector x) {
    REAL sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += x[lane];
    return sum;
}

#endif
