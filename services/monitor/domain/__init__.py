"""What the monitor decides, pure: event time, the label join, windows, drift, evidence and training requests."""
