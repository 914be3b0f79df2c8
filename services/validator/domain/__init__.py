"""What makes a candidate good enough: evidence, gates, verdict. Pure: no I/O, no clock."""
