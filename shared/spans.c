/* Texts where somebody keeps them in memory; spans.py says what for and calls this. */

#include <stdint.h>
#include <string.h>

/* of Python's stable ABI, so that its headers are not needed */
extern void *PyList_GetItem(void *list, intptr_t index);
extern int PyBytes_AsStringAndSize(void *bytes, char **at, intptr_t *size);
extern char _Py_NoneStruct; /* where None is */

/* Of n objects of a list, bytes or None, where Python keeps them; returns the bytes of all, or -1 when Python has an
   error to raise. None is nowhere. */
int64_t modelbus_spans(void *list, int64_t n, char **at, int64_t *sizes) {
    int64_t all = 0;
    for (int64_t row = 0; row < n; all += sizes[row++]) {
        void *item = PyList_GetItem(list, row);
        intptr_t size = 0;
        at[row] = NULL;
        if (!item || (item != (void *)&_Py_NoneStruct && PyBytes_AsStringAndSize(item, at + row, &size))) return -1;
        sizes[row] = size;
    }
    return all;
}

/* Which of n spans hold the very bytes that Arrow keeps of n texts: offsets, and the letters one after the other. */
void modelbus_same(int64_t n, char *const *at, const int64_t *sizes, const int32_t *offsets, const char *letters,
                   uint8_t *same) {
    for (int64_t row = 0; row < n; row++)
        same[row] = at[row] && sizes[row] == offsets[row + 1] - offsets[row] &&
                    !memcmp(at[row], letters + offsets[row], (size_t)sizes[row]);
}
