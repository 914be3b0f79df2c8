-- How the scorers saw both arms of a rollout: sums.
ALTER TABLE rollout ADD COLUMN scoring jsonb;
