"""What the ingestor decides: what to read, what is good, what a commit holds. No I/O, no clock."""
