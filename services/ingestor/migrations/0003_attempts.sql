-- Which stretch of a partition a process is reading, and how many processes ended over it.
CREATE TABLE attempt (
    topic text NOT NULL,
    partition integer NOT NULL,
    start bigint NOT NULL,
    life text NOT NULL,
    deaths integer NOT NULL,
    PRIMARY KEY (topic, partition)
);
