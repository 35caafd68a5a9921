/* A few threads that wait for work, shared by everything in this library. */
#ifndef POOL_H
#define POOL_H

/* Divides its work by a queue of its own: it returns when the queue is empty. Scratch memory goes by `worker`. */
typedef void (*pool_work)(void *shared, int worker);

/* Run `work` in the calling thread, as worker 0, and in up to threads - 1 others, as workers 1, 2, ...

   Returns when all that began have returned. A thread that comes late finds the door closed, so nobody ever waits for
   it. If the threads are already at work for somebody else, the caller works alone. Denormal numbers count as zero
   inside, as they do in PyTorch's own threads after set_flush_denormal(True). */
void pool_run(int threads, pool_work work, void *shared);

/* Tell the processor that this thread waits in a loop. */
static inline void pool_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
