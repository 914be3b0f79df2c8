-- One rollout a model, its state as the domain writes it, and where each partition has got to.
CREATE TABLE rollout (
    model text PRIMARY KEY,
    state jsonb,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE switch (
    model text NOT NULL,
    partition integer NOT NULL,
    revision bigint NOT NULL,
    first_offset bigint NOT NULL,
    PRIMARY KEY (model, partition)
);
