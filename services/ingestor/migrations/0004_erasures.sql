-- Erasures that were ordered and are not over. Who is to be erased stands in the object that the receipt is the digest of.
-- `ends` (by topic, then partition) is how far the topics reached when the order was heard; `found` is what is to go.
CREATE TABLE erasure (
    receipt text PRIMARY KEY,
    streams text[] NOT NULL,
    event_id text NOT NULL,
    correlation_id text NOT NULL,
    traceparent text,
    ends jsonb,
    found jsonb,
    said boolean NOT NULL DEFAULT false
);

-- What a pinned version could see of its tables; unknown of those that were pinned before.
ALTER TABLE pin ADD COLUMN cut jsonb, ADD COLUMN seen interval;
