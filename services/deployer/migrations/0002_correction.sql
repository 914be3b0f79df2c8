-- What is withdrawn and not yet said prediction by prediction; a row goes when all its corrections are published.
CREATE TABLE correction (
    model text NOT NULL,
    revision bigint NOT NULL,
    partitions integer NOT NULL,
    withdrawal jsonb NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, revision)
);
