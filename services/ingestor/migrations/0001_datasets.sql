-- What is declared (as text: jsonb would lose the order of features), and how far each table's log has been announced.
CREATE TABLE stream (
    name text PRIMARY KEY,
    revision integer NOT NULL,
    spec text NOT NULL
);

CREATE TABLE model (
    name text PRIMARY KEY,
    revision integer NOT NULL,
    stream_spec text NOT NULL
);

CREATE TABLE dataset (
    name text PRIMARY KEY,
    announced_version bigint NOT NULL
);
