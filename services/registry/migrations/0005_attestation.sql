-- The bundle by which the validator signed a version's files.
ALTER TABLE version ADD COLUMN attestation jsonb;
