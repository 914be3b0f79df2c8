-- Which versions of a stream's tables the registered versions of models were trained on; these stay readable for ever.
CREATE TABLE pin (
    model text NOT NULL,
    version integer NOT NULL,
    stream text NOT NULL,
    data_version bigint NOT NULL,
    labels_version bigint NOT NULL,
    PRIMARY KEY (model, version)
);
