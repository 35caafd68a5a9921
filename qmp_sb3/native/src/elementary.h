/* exp, log and tanh of vectors: of floats by polynomials, to a few units in the last place; of doubles by the C library,
   number by number. */
#ifndef ELEMENTARY_H
#define ELEMENTARY_H

#include "vector.h"

#if REAL_IS_FLOAT

/* 2^n for whole numbers n from -126 to 127: n is the exponent of a float. */
INLINE vector power_of_two(mask n) { return (vector)((n + 127) << 23); }

/* e^x = 2^n e^r with |r| <= log(2) / 2, e^r = 1 + r + r^2 p(r); p was fitted, its error is 1e-8. */
INLINE vector exponential(vector x) {
    const float log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
    x = larger(smaller(x, fill(88.0f)), fill(-87.0f));
    vector scaled = x * 1.44269504f;
    mask n = __builtin_convertvector(scaled + choose(scaled < 0, fill(-0.5f), fill(0.5f)), mask);
    vector whole = __builtin_convertvector(n, vector);
    vector r = x - whole * log2_high - whole * log2_low;
    vector p = fill(1.39336428e-3f);
    p = p * r + 8.36317521e-3f;
    p = p * r + 4.16664667e-2f;
    p = p * r + 1.66665763e-1f;
    p = p * r + 0.5f;
    return (p * r * r + r + 1.0f) * power_of_two(n);
}

/* x = 2^n m with sqrt(1/2) <= m < sqrt(2); log m = 2 artanh s with s = (m - 1) / (m + 1), by its series.
   Positive normal numbers only. */
INLINE vector logarithm(vector x) {
    const float log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
    const int root_half = 0x3f3504f3; /* the bits of sqrt(1/2) */
    mask bits = (mask)x - root_half;
    mask n = bits >> 23;
    vector m = (vector)((bits & 0x7fffff) + root_half);
    vector whole = __builtin_convertvector(n, vector);
    vector f = m - 1.0f;
    vector s = f / (f + 2.0f), z = s * s;
    vector p = fill(2.0f / 9.0f);
    p = p * z + 2.0f / 7.0f;
    p = p * z + 2.0f / 5.0f;
    p = p * z + 2.0f / 3.0f;
    return whole * log2_high + (whole * log2_low + (p * z * s + 2.0f * s));
}

/* Near zero x + x^3 p(x^2), fitted, error 4e-9; elsewhere 1 - 2 / (e^2|x| + 1) with the sign of x. */
INLINE vector hyperbolic_tangent(vector x) {
    vector magnitude = (vector)((mask)x & 0x7fffffff);
    vector z = x * x;
    vector p = fill(-6.61574630e-3f);
    p = p * z + 2.13127397e-2f;
    p = p * z - 5.39100654e-2f;
    p = p * z + 1.33331180e-1f;
    p = p * z - 3.33333313e-1f;
    vector near_zero = p * z * x + x;
    vector beyond = 1.0f - 2.0f / (exponential(2.0f * magnitude) + 1.0f);
    beyond = (vector)((mask)beyond | ((mask)x & (int)0x80000000));
    return choose(magnitude < 0.55f, near_zero, beyond);
}

#else

INLINE vector exponential(vector x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = exp(x[lane]);
    return x;
}

INLINE vector logarithm(vector x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = log(x[lane]);
    return x;
}

INLINE vector hyperbolic_tangent(vector x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = tanh(x[lane]);
    return x;
}

#endif
#endif
