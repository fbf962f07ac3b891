/* Workspaces of several arrays in one block of memory. */

#define TILE   32 /* queries that attention takes together; what sizes are padded to in bfloat16 */
#define LD_PAD 16 /* floats between rows of a product, against conflicts in the L1 cache */

/* Takes the next `bytes` of an arena, rounded up to whole cache lines, and moves `at` behind them.
 */
static void *arena_take(char **at, i64 bytes) {
    char *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* The smallest multiple of `multiple` that is at least n. */
static i64 round_up(i64 n, i64 multiple) { return (n + multiple - 1) / multiple * multiple; }

static i64 round_up_tile(i64 n) { return round_up(n, TILE); }
