-- The runs of one model that are not over.
CREATE INDEX job_open_of_model ON job (subject) WHERE state IN ('waiting', 'running');
