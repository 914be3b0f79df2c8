-- What people had to say.
CREATE TABLE comment (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL REFERENCES model,
    version int,
    actor text NOT NULL,
    text text NOT NULL,
    at timestamptz NOT NULL,
    FOREIGN KEY (model, version) REFERENCES version
);
CREATE INDEX comment_of_model ON comment (model, position);
