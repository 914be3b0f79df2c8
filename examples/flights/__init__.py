"""Every departure from New York City's airports in 2013, as a stream of events and labels."""
