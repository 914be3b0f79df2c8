/* Usual records of a stream, column by column; plain.py says what is usual and calls this.

   A record is usual when nothing about it can be doubted: each member once, ASCII text without escapes, a time with a
   zone, numbers of which the nearest double is sure, in range, and declared values. Whatever else there is, also what is
   wrong, is left to the decoder that all services share: nothing is accepted here that it would refuse, flag, or read in
   another way. */

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TIME_BYTES 40
enum { FLOAT, BOOL, CATEGORY, OPTIONAL = 4 };
enum { ID, ENTITY, TIME }; /* what is written as text */

struct columns { /* of n records; matrix and spans column after column */
    int64_t n, features, most_bytes, most_letters; /* of a record; of its id and of its entity */
    const uint8_t *const *records;
    const int64_t *sizes;
    const char *names; /* of the features, in quotes, one after the other */
    const int32_t *name_ends;
    const uint8_t *kinds;
    const double *lows, *highs; /* what is beyond needs a word */
    const char *values;         /* of the categories, one after the other, each category's in the order of their bytes */
    const int32_t *value_ends;
    const int32_t *category_ends; /* of each feature, counted in values */
    const double *codes;          /* of the values */
    double *matrix;               /* numbers, bools as 0 and 1, codes; NaN is missing */
    int64_t *times;               /* microseconds since 1970, UTC */
    int32_t *starts;              /* of an id or entity in its record */
    int32_t *lengths;
    int64_t *letters; /* of all ids, and of all entities */
    uint8_t *usual;
};

static const uint8_t *spaces(const uint8_t *at, const uint8_t *end) {
    while (at < end && *at <= ' ' && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
    return at;
}

/* Past this byte and the spaces around it; NULL where it is not there, as everywhere below. */
static const uint8_t *past(const uint8_t *at, const uint8_t *end, uint8_t byte) {
    at = spaces(at, end);
    return at < end && *at == byte ? spaces(at + 1, end) : NULL;
}

/* Names are short: to call memcmp takes longer. */
static const uint8_t *past_name(const uint8_t *at, const uint8_t *end, const char *name, int64_t length) {
    if (end - at < length) return NULL;
    uint64_t ours, theirs;
    for (; length >= 8; length -= 8, at += 8, name += 8) {
        memcpy(&ours, at, 8);
        memcpy(&theirs, name, 8);
        if (ours != theirs) return NULL;
    }
    for (; length; length--)
        if (*at++ != (uint8_t)*name++) return NULL;
    return at;
}

static const uint8_t *past_word(const uint8_t *at, const uint8_t *end, const char *word) {
    return past_name(at, end, word, (int64_t)strlen(word));
}

/* At the closing quote of a text that begins at `at`. */
static const uint8_t *text_end(const uint8_t *at, const uint8_t *end) {
    static const uint8_t plain[256] = {[' '] = 1, ['!'] = 1, ['#' ... '['] = 1, [']' ... '~'] = 1};
    while (at < end && plain[*at]) at++;
    return at < end && *at == '"' ? at : NULL;
}

static int is_digit(const uint8_t *at, const uint8_t *end) { return at < end && *at >= '0' && *at <= '9'; }

/* mantissa · 10^power, correctly rounded; 0 where that takes more. */
static int exact(uint64_t mantissa, int power, double *value) {
    static const double doubles[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    static const long double tens[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                       1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                       1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    if (mantissa < (1ull << 53) && power >= -22 && power <= 22) {
        *value = power < 0 ? (double)mantissa / doubles[-power] : (double)mantissa * doubles[power];
        return 1;
    }
#if LDBL_MANT_DIG >= 64
    /* of exact operands: rounded to the wide type, and then to a double, unless it lies about half way to the next */
    if (power < -27 || power > 27) return 0;
    long double wide = power < 0 ? (long double)mantissa / tens[-power] : (long double)mantissa * tens[power];
    double near = (double)wide, next;
    uint64_t bits;
    memcpy(&bits, &near, sizeof bits);
    bits += wide < near ? -1 : 1;
    memcpy(&next, &bits, sizeof next);
    long double off = wide < near ? near - wide : wide - near, half = ((long double)next - near) / (wide < near ? -2 : 2);
    long double from_half = off < half ? half - off : off - half;
    *value = near;
    return from_half > wide * LDBL_EPSILON;
#else
    return 0;
#endif
}

static const uint8_t *past_digits(const uint8_t *at, const uint8_t *end, uint64_t *value) {
    for (; is_digit(at, end); at++) *value = *value * 10 + (*at - '0');
    return at;
}

/* Signs and leading zeros come as often as not: a jump that they decide would be mispredicted as often. */
static const uint8_t *number(const uint8_t *at, const uint8_t *end, double *value) {
    static const double signs[] = {1, -1};
    int negative = at < end && *at == '-', power = 0, written = 0;
    uint64_t mantissa = 0;
    const uint8_t *first = at += negative;
    if (!is_digit(at, end)) return NULL;
    if (is_digit(at + 1, end) & (*at == '0')) return NULL;
    at = past_digits(at, end, &mantissa);
    ptrdiff_t digits = (at - first) * (*first != '0');
    if (digits > 18) return NULL;
    if (at < end && *at == '.') {
        const uint8_t *point = ++at;
        at = past_digits(at, end, &mantissa);
        if (at == point) return NULL;
        if (at - point > 18 && !digits) /* zeros that lead do not count */
            for (first = point; first < at && *first == '0'; first++) digits--;
        digits += at - point;
        if (digits > 18) return NULL;
        power = (int)(point - at);
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        int down = at < end && *at == '-';
        at += at < end && (*at == '-' || *at == '+');
        if (!is_digit(at, end)) return NULL;
        for (; is_digit(at, end); at++)
            if ((written = written * 10 + (*at - '0')) > 400) return NULL;
        power += down ? -written : written;
    }
    if ((negative & (mantissa == 0)) || !exact(mantissa, power, value)) return NULL;
    *value *= signs[negative];
    return at;
}

static int digits_of(const uint8_t *at, int count, int *value) {
    *value = 0;
    for (int each = 0; each < count; each++) {
        if (at[each] < '0' || at[each] > '9') return 0;
        *value = *value * 10 + (at[each] - '0');
    }
    return 1;
}

static int clock_of(const uint8_t *at, int *hour, int *minute) {
    return digits_of(at, 2, hour) && at[2] == ':' && digits_of(at + 3, 2, minute) && *hour < 24 && *minute < 60;
}

/* 2013-01-01T10:17:00[.123456](Z|+01:00), of a year that every zone can tell. */
static int time_of(const uint8_t *at, int length, int64_t *micros) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day, hour, minute, second, fraction = 0, places = 0, off_hour = 0, off_minute = 0, sign = 0;
    if (length < 20 || !digits_of(at, 4, &year) || at[4] != '-' || !digits_of(at + 5, 2, &month) || at[7] != '-' ||
        !digits_of(at + 8, 2, &day) || at[10] != 'T' || !clock_of(at + 11, &hour, &minute) || at[16] != ':' ||
        !digits_of(at + 17, 2, &second))
        return 0;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 3 || year > 9997 || month < 1 || month > 12 || second > 59 || day < 1 ||
        day > days[month - 1] + (month == 2 && leap))
        return 0;
    const uint8_t *end = at + length;
    at += 19;
    if (*at == '.') {
        for (at++; is_digit(at, end) && places < 7; at++, places++) fraction = fraction * 10 + (*at - '0');
        if (places < 1 || places > 6) return 0;
        for (; places < 6; places++) fraction *= 10;
    }
    if (end - at == 6 && (*at == '+' || *at == '-')) {
        sign = *at == '+' ? 1 : -1;
        if (!clock_of(at + 1, &off_hour, &off_minute)) return 0;
    } else if (end - at != 1 || *at != 'Z')
        return 0;
    int64_t y = year - (month <= 2), era = y / 400, of_era = y - era * 400; /* Hinnant, days_from_civil */
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t since = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    int64_t minutes = since * 1440 + hour * 60 + minute - sign * (off_hour * 60 + off_minute);
    *micros = (minutes * 60 + second) * 1000000 + fraction;
    return 1;
}

static uint8_t *digits(uint8_t *at, int64_t value, int count) {
    for (int each = count - 1; each >= 0; each--, value /= 10) at[each] = (uint8_t)('0' + value % 10);
    return at + count;
}

static uint8_t *joined(uint8_t *at, int64_t value, int count, uint8_t byte) {
    at = digits(at, value, count);
    *at = byte;
    return at + 1;
}

/* 2013-01-01T10:17:00[.123456]Z of microseconds, as the shared encoder writes it. */
static uint8_t *time_text(uint8_t *at, int64_t micros) {
    micros += 719468 * 86400000000; /* since the year 0: not negative, as years are greater */
    int64_t fraction = micros % 1000000, seconds = micros / 1000000, second = seconds % 86400;
    int64_t z = seconds / 86400, era = z / 146097, of_era = z - era * 146097; /* Hinnant, civil_from_days */
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    int64_t month = m < 10 ? m + 3 : m - 9;
    at = joined(at, y + era * 400 + (month <= 2), 4, '-');
    at = joined(at, month, 2, '-');
    at = joined(at, of_year - (153 * m + 2) / 5 + 1, 2, 'T');
    at = joined(at, second / 3600, 2, ':');
    at = joined(at, second / 60 % 60, 2, ':');
    at = digits(at, second % 60, 2);
    if (fraction) {
        *at++ = '.';
        at = digits(at, fraction, 6);
    }
    *at = 'Z';
    return at + 1;
}

/* The feature that is named, most often the one after the last; `*at` then is at its value. */
static int64_t feature_of(const struct columns *c, const uint8_t **at, const uint8_t *end, int64_t likely) {
    for (int64_t tried = 0, each = likely; tried < c->features; tried++, each++) {
        if (each == c->features) each = 0;
        int64_t start = each ? c->name_ends[each - 1] : 0;
        const uint8_t *after = past_name(*at, end, c->names + start, c->name_ends[each] - start);
        if (after && (after = past(after, end, ':'))) {
            *at = after;
            return each;
        }
    }
    return -1;
}

static const uint8_t *text(const struct columns *c, const uint8_t *at, const uint8_t *end, int64_t row, int64_t which) {
    if (at >= end || *at != '"') return NULL;
    const uint8_t *close = text_end(at + 1, end);
    if (!close) return NULL;
    int64_t cell = which * c->n + row;
    c->starts[cell] = (int32_t)(at + 1 - c->records[row]);
    c->lengths[cell] = (int32_t)(close - at - 1);
    return close + 1;
}

/* The code of a declared value; 0 where there is none. */
static int code_of(const struct columns *c, int64_t which, const uint8_t *value, int64_t length, double *code) {
    int32_t low = which ? c->category_ends[which - 1] : 0, high = c->category_ends[which];
    while (low < high) {
        int32_t middle = low + (high - low) / 2, start = middle ? c->value_ends[middle - 1] : 0;
        int64_t size = c->value_ends[middle] - start;
        int order = memcmp(c->values + start, value, (size_t)(size < length ? size : length));
        if (!order && size == length) {
            *code = c->codes[middle];
            return 1;
        }
        if (order < 0 || (!order && size < length)) low = middle + 1;
        else high = middle;
    }
    return 0;
}

static const uint8_t *value(const struct columns *c, const uint8_t *at, const uint8_t *end, int64_t row, int64_t which) {
    double *cell = c->matrix + which * c->n + row;
    const uint8_t *after = past_word(at, end, "null");
    if (after) return c->kinds[which] & OPTIONAL ? after : NULL; /* it is missing already */
    switch (c->kinds[which] & ~OPTIONAL) {
    case FLOAT:
        after = number(at, end, cell);
        return after && *cell >= c->lows[which] && *cell <= c->highs[which] ? after : NULL;
    case BOOL:
        after = past_word(at, end, "true");
        *cell = after != NULL;
        return after ? after : past_word(at, end, "false");
    default:
        after = at < end && *at == '"' ? text_end(at + 1, end) : NULL;
        return after && code_of(c, which, at + 1, after - at - 1, cell) ? after + 1 : NULL;
    }
}

static const uint8_t *features(const struct columns *c, const uint8_t *at, const uint8_t *end, int64_t row, uint8_t *seen) {
    int64_t which = -1;
    memset(seen, 0, (size_t)c->features);
    if (!(at = past(at, end, '{'))) return NULL;
    if (at < end && *at == '}') at++;
    else
        for (;;) {
            if ((which = feature_of(c, &at, end, which + 1)) < 0 || seen[which]++) return NULL;
            if (!(at = value(c, at, end, row, which))) return NULL;
            at = spaces(at, end);
            if (at < end && *at == '}') {
                at++;
                break;
            }
            if (!(at = past(at, end, ','))) return NULL;
        }
    for (which = 0; which < c->features; which++)
        if (!seen[which] && !(c->kinds[which] & OPTIONAL)) return NULL;
    return at;
}

static int record(const struct columns *c, const uint8_t *at, const uint8_t *end, int64_t row, uint8_t *seen) {
    static const char *const members[] = {"\"id\"", "\"entity\"", "\"time\"", "\"features\""};
    static const int64_t lengths[] = {4, 8, 6, 10};
    int had = 0;
    if (end - at > c->most_bytes || !(at = past(at, end, '{'))) return 0;
    for (int member = 0;; member++) {
        const uint8_t *after = NULL;
        int which = 0;
        for (; which < 4; which++)
            if ((after = past_name(at, end, members[(member + which) & 3], lengths[(member + which) & 3]))) break;
        which = (member + which) & 3;
        if (!after || (had & (1 << which)) || !(at = past(after, end, ':'))) return 0;
        had |= 1 << which;
        if (which == 3) {
            at = features(c, at, end, row, seen);
        } else if (which == 2) {
            if (at >= end || *at != '"' || !(after = text_end(at + 1, end)) || after - at > TIME_BYTES) return 0;
            if (!time_of(at + 1, (int)(after - at - 1), c->times + row)) return 0;
            at = after + 1;
        } else {
            at = text(c, at, end, row, which);
            if (at && (c->lengths[which * c->n + row] < 1 || c->lengths[which * c->n + row] > c->most_letters)) return 0;
        }
        if (!at) return 0;
        at = spaces(at, end);
        if (at < end && *at == '}') break;
        if (!(at = past(at, end, ','))) return 0;
    }
    return had == 15 && spaces(at + 1, end) == end;
}

/* Whoever lays it out in another way must not call. */
int64_t modelbus_columns_bytes(void) { return (int64_t)sizeof(struct columns); }

/* All of them; returns how many are usual, or -1 without memory. What the others left in the columns means nothing;
   their codes are declared ones, or NaN. */
int64_t modelbus_read(const struct columns *c) {
    int64_t found = c->letters[ID] = c->letters[ENTITY] = 0;
    uint8_t *seen = malloc((size_t)c->features + 1);
    if (!seen) return -1;
    for (int64_t row = 0; row < c->n; row++) {
        const uint8_t *at = c->records[row];
        for (int64_t which = 0; which < c->features; which++) c->matrix[which * c->n + row] = NAN;
        found += c->usual[row] = (uint8_t)record(c, at, at + c->sizes[row], row, seen);
        for (int64_t which = 0; c->usual[row] && which < 2; which++) c->letters[which] += c->lengths[which * c->n + row];
    }
    free(seen);
    return found;
}

/* Ids or entities of the usual records as Arrow keeps them: an offset more than there are, and their letters. */
void modelbus_texts(const struct columns *c, int64_t which, int32_t *offsets, uint8_t *letters) {
    int32_t end = 0;
    for (int64_t row = 0; row < c->n; row++) {
        int64_t cell = which * c->n + row;
        if (!c->usual[row]) continue;
        *offsets++ = end;
        memcpy(letters + end, c->records[row] + c->starts[cell], (size_t)c->lengths[cell]);
        end += c->lengths[cell];
    }
    *offsets = end;
}

/* Ids, entities or times of the usual records, a line each; returns the bytes written. */
int64_t modelbus_lines(const struct columns *c, int64_t which, uint8_t *lines) {
    uint8_t *at = lines;
    for (int64_t row = 0; row < c->n; row++) {
        if (!c->usual[row]) continue;
        if (which == TIME) {
            at = time_text(at, c->times[row]);
        } else {
            int64_t cell = which * c->n + row;
            memcpy(at, c->records[row] + c->starts[cell], (size_t)c->lengths[cell]);
            at += c->lengths[cell];
        }
        *at++ = '\n';
    }
    return at - lines;
}
