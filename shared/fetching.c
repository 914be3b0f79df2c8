/* Messages of Kafka's client as columns; fetching.py says what for and calls this. */

#include <stddef.h>
#include <stdint.h>

struct message { /* rd_kafka_message_t of rdkafka.h */
    int32_t error;
    void *topic;
    int32_t partition;
    void *value;
    size_t value_size;
    void *key;
    size_t key_size;
    int64_t offset;
    void *theirs;
};

/* Whoever lays it out in another way must not call. */
int64_t modelbus_message_bytes(void) { return (int64_t)sizeof(struct message); }

/* Of n messages, a column each. */
void modelbus_spread(int64_t n, struct message *const *messages, int32_t *errors, void **topics, int32_t *partitions,
                     int64_t *offsets, void **keys, int64_t *key_sizes, void **values, int64_t *value_sizes) {
    for (int64_t row = 0; row < n; row++) {
        const struct message *each = messages[row];
        errors[row] = each->error;
        topics[row] = each->topic;
        partitions[row] = each->partition;
        offsets[row] = each->offset;
        keys[row] = each->key;
        key_sizes[row] = (int64_t)each->key_size;
        values[row] = each->value;
        value_sizes[row] = (int64_t)each->value_size;
    }
}

/* Give n messages back to the client. */
void modelbus_release(int64_t n, struct message *const *messages, void (*destroy)(struct message *)) {
    for (int64_t row = 0; row < n; row++) destroy(messages[row]);
}
