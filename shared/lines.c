/* Templates filled from columns of lines; lines.py says what that is and calls this. */

#include <stdint.h>
#include <string.h>

static uint8_t *put(uint8_t *at, const uint8_t *bytes, int64_t size) {
    memcpy(at, bytes, (size_t)size);
    return at + size;
}

/* n lines: a piece, a line of the first column, a piece, and so on, one piece more than there are columns.
   `columns` say where each begins and `left` how long each is, and then the same of what is left of them. Returns the
   bytes written, or -1 where a column has fewer lines, or more. */
int64_t modelbus_fill(int64_t n, int64_t count, const uint8_t *pieces, const int64_t *sizes, const uint8_t **columns,
                      int64_t *left, uint8_t *lines) {
    uint8_t *at = lines;
    for (int64_t row = 0; row < n; row++) {
        const uint8_t *piece = pieces;
        for (int64_t which = 0; which < count; piece += sizes[which++]) {
            at = put(at, piece, sizes[which]);
            const uint8_t *begin = columns[which], *end = memchr(begin, '\n', (size_t)left[which]);
            if (!end) return -1;
            at = put(at, begin, end - begin);
            columns[which] = end + 1;
            left[which] -= end + 1 - begin;
        }
        at = put(at, piece, sizes[count]);
        *at++ = '\n';
    }
    for (int64_t which = 0; which < count; which++)
        if (left[which]) return -1;
    return at - lines;
}
