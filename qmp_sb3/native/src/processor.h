/* What the processor can do. */
#ifndef PROCESSOR_H
#define PROCESSOR_H

/* Instruction sets for which there is code, from the one that every processor has upwards. */
enum { BASELINE, AVX2, AVX512, INSTRUCTION_SETS };

/* The best of them that this processor has. */
int processor_best(void);

#endif
