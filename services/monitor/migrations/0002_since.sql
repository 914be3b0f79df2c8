-- After a sudden change a run learns from nothing older.
ALTER TABLE run ADD COLUMN since timestamptz;
