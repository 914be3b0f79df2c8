-- Versions that were altered after they had been signed, of which an alert is open.
CREATE TABLE altered (
    model text NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (model, version)
);
