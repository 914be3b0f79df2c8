-- The model card of a version, where it was judged: the page and the data it was drawn from.
ALTER TABLE version ADD COLUMN card jsonb;
