#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "flush_to_zero.h"

enum { MAX_THREADS = 256, OPEN = 1 << 30 };
/* Between two updates of a training lie some tenths of a millisecond: going to sleep and waking up takes as long. */
static const int64_t SPIN_NANOSECONDS = 1000000;

static pthread_mutex_t callers = PTHREAD_MUTEX_INITIALIZER; /* held while a job runs */
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t alarm_clock = PTHREAD_COND_INITIALIZER;
static atomic_int sleepers;
static atomic_uint jobs;    /* counts them; a change is the sign that there is one */
static atomic_int door;     /* OPEN while threads may enter, plus the number of those inside */
static atomic_int invited;  /* workers with a smaller index take part */
static pool_work job;
static void *job_shared;
static int workers; /* threads that exist, besides the callers */

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void await_job(unsigned seen) {
    int64_t deadline = now() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load(&jobs) != seen) return;
            pool_pause();
        }
    } while (now() < deadline);
    pthread_mutex_lock(&bed);
    atomic_fetch_add(&sleepers, 1);
    while (atomic_load(&jobs) == seen) pthread_cond_wait(&alarm_clock, &bed);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&bed);
}

static int enter(void) {
    int inside = atomic_load(&door);
    while (inside & OPEN)
        if (atomic_compare_exchange_weak(&door, &inside, inside + 1)) return 1;
    return 0;
}

static void *worker(void *argument) {
    int index = (int)(intptr_t)argument;
    unsigned seen = 0;
    flush_to_zero();
    for (;;) {
        await_job(seen);
        seen = atomic_load(&jobs);
        if (enter()) {
            if (index < atomic_load(&invited)) job(job_shared, index);
            atomic_fetch_sub(&door, 1);
        }
    }
    return NULL;
}

/* Threads do not survive a fork: the child starts without any. */
static void forget_workers(void) {
    workers = 0;
    atomic_store(&sleepers, 0);
    atomic_store(&jobs, 0);
    atomic_store(&door, 0);
    pthread_mutex_init(&callers, NULL);
    pthread_mutex_init(&bed, NULL);
    pthread_cond_init(&alarm_clock, NULL);
}

static void hire(int wanted) {
    static int prepared = 0;
    if (!prepared) prepared = !pthread_atfork(NULL, NULL, forget_workers);
    sigset_t all, before;
    sigfillset(&all); /* signals are for the threads of Python */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (workers < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(intptr_t)(workers + 1))) break;
        pthread_detach(thread);
        workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_with_others(int threads, pool_work work, void *shared) {
    hire(threads - 1);
    job = work;
    job_shared = shared;
    atomic_store(&invited, threads);
    atomic_store(&door, OPEN);
    atomic_fetch_add(&jobs, 1);
    if (atomic_load(&sleepers)) {
        pthread_mutex_lock(&bed);
        pthread_cond_broadcast(&alarm_clock);
        pthread_mutex_unlock(&bed);
    }
    work(shared, 0);
    atomic_fetch_and(&door, ~OPEN);
    for (unsigned waited = 1; atomic_load(&door); waited++) {
        pool_pause();
        if (waited % 1024 == 0) sched_yield(); /* the other one may need this processor */
    }
}

void pool_run(int threads, pool_work work, void *shared) {
    uint64_t before = flush_to_zero();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads > 1 && !pthread_mutex_trylock(&callers)) {
        run_with_others(threads, work, shared);
        pthread_mutex_unlock(&callers);
    } else {
        work(shared, 0);
    }
    restore_denormals(before);
}
