-- Acts about a model or version, by when they were done.
CREATE INDEX audit_of_subject ON audit (subject, position);
