/* Arithmetic with denormal numbers is up to a hundred times slower and changes nothing that matters here. */
#ifndef FLUSH_TO_ZERO_H
#define FLUSH_TO_ZERO_H

#include <stdint.h>

#if defined(__x86_64__)

static inline uint64_t flush_to_zero(void) {
    uint64_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr((unsigned)before | 0x8040u); /* results and operands */
    return before;
}

static inline void restore_denormals(uint64_t before) { __builtin_ia32_ldmxcsr((unsigned)before); }

#elif defined(__aarch64__)

static inline uint64_t flush_to_zero(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
    return before;
}

static inline void restore_denormals(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }

#else

static inline uint64_t flush_to_zero(void) { return 0; }
static inline void restore_denormals(uint64_t before) { (void)before; }

#endif
#endif
