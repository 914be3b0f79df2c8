-- Who serves each model, as the deployer last said: candidates are compared with it.
CREATE TABLE champion (
    model text PRIMARY KEY,
    revision bigint NOT NULL,
    release jsonb NOT NULL
);
