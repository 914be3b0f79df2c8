/* Forests of small trees, many rows at a time; trees.py says which forests and calls this.

   No row walks down a tree: that mispredicts a branch a level. Each node is asked of all rows of a block instead, and
   what it decides against is struck from the leaves of that row; the first leaf that is left is the row's (Lucchese et
   al., QuickScorer, SIGIR 2015; here without its sorting, as the compiler makes vectors of the loops over rows). Sums are
   of float32, tree after tree, as ONNX Runtime's: the same bits. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define ROWS 16 /* of a block */
#define LEAVES 32
enum { SUM, MARGINS, PROBABILITIES };
#if defined(__x86_64__) && defined(__GLIBC__) /* whose loader chooses */
#define FOR_EACH_MACHINE __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_MACHINE
#endif

struct forest { /* nodes tree after tree; of each tree those that send what is missing to the right come first */
    int64_t trees, features;
    const int64_t *lefts, *ends; /* of each tree: where those begin that send it to the left, and where all end */
    const int32_t *columns;      /* of the nodes */
    const float *thresholds;     /* of the nodes: what is at most this goes left */
    const int32_t *kept;         /* of the nodes: the leaves that are left to who goes right, a bit each */
    const float *weights;        /* LEAVES of each tree, from left to right */
    float base;
};

static float logistic(float value) {
    float above = 1.0f / (1.0f + expf(-fabsf(value)));
    return value < 0 ? 1.0f - above : above;
}

FOR_EACH_MACHINE
static void sums(const struct forest *f, const float *inputs, int64_t n, float(*block)[ROWS], float *found, int step) {
    for (int64_t first = 0; first < n; first += ROWS) {
        int64_t rows = n - first < ROWS ? n - first : ROWS;
        for (int64_t row = 0; row < ROWS; row++) {
            const float *input = inputs + (first + (row < rows ? row : 0)) * f->features;
            for (int64_t column = 0; column < f->features; column++) block[column][row] = input[column];
        }
        float sum[ROWS] = {0};
        for (int64_t tree = 0, node = 0; tree < f->trees; tree++) {
            int32_t left[ROWS];
            for (int row = 0; row < ROWS; row++) left[row] = -1;
            for (; node < f->lefts[tree]; node++) {
                const float *values = block[f->columns[node]], threshold = f->thresholds[node];
                const int32_t kept = f->kept[node];
                for (int row = 0; row < ROWS; row++) left[row] &= -(values[row] <= threshold) | kept;
            }
            for (; node < f->ends[tree]; node++) {
                const float *values = block[f->columns[node]], threshold = f->thresholds[node];
                const int32_t kept = f->kept[node];
                for (int row = 0; row < ROWS; row++) left[row] &= -!(values[row] > threshold) | kept;
            }
            const float *weights = f->weights + tree * LEAVES;
            for (int row = 0; row < ROWS; row++) sum[row] += weights[__builtin_ctz((uint32_t)left[row])];
        }
        for (int64_t row = 0; row < rows; row++) found[(first + row) * step] = sum[row] + f->base;
    }
}

/* Whoever lays it out in another way must not call. */
int64_t modelbus_forest_bytes(void) { return (int64_t)sizeof(struct forest); }

/* float32 (n, features) → sums (n, 1); or, of two classes, margins or probabilities (n, 2) of what is not, and is.
   Returns -1 without memory. */
int modelbus_forest(const struct forest *f, const float *inputs, int64_t n, int transform, float *scores) {
    float(*block)[ROWS] = malloc(sizeof(*block) * (size_t)(f->features + 1));
    if (!block) return -1;
    sums(f, inputs, n, block, scores, transform == SUM ? 1 : 2);
    for (int64_t row = 0; row < n && transform != SUM; row++) {
        float sum = scores[2 * row];
        scores[2 * row] = transform == MARGINS ? -sum : logistic(-sum);
        scores[2 * row + 1] = transform == MARGINS ? sum : logistic(sum);
    }
    free(block);
    return 0;
}
