/* Fetches what comes next into the second-level cache while products keep the processor busy.

   The numbers of a task do not fit there, and the processor does not guess the order in which they are used. */
#ifndef AHEAD_H
#define AHEAD_H

#include "vector.h"

/* A line for every second step of a product: faster, and lines are gone again before they are used; slower, and they are
   not there in time. */
enum { LINE = 64, FETCH_EVERY = 2, MAX_RANGES = 128 };

typedef struct {
    const char *at, *end; /* of the range that is being fetched */
    int next, count;
    struct {
        const char *at, *end;
    } ranges[MAX_RANGES];
} Ahead;

/* Say that `count` numbers are going to be used, after all that was said before. */
static void expect(Ahead *ahead, const void *numbers, ptrdiff_t count) {
    if (ahead->next == ahead->count) ahead->next = ahead->count = 0;
    if (ahead->count == MAX_RANGES) return;
    ahead->ranges[ahead->count].at = numbers;
    ahead->ranges[ahead->count++].end = (const char *)numbers + count * (ptrdiff_t)sizeof(REAL);
}

/* Where a product that fetches so many lines begins to. */
INLINE const char *lines_ahead(Ahead *ahead, int lines) {
    if (ahead->at >= ahead->end && ahead->next < ahead->count) {
        ahead->at = ahead->ranges[ahead->next].at;
        ahead->end = ahead->ranges[ahead->next++].end;
    }
    const char *at = ahead->at;
    if (at < ahead->end) ahead->at += (ptrdiff_t)lines * LINE;
    return at;
}

INLINE void fetch(const char *line) { __builtin_prefetch(line, 0, 2); }

#endif
