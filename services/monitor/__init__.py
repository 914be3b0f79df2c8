"""Monitor: hears specs, table versions, runs and rollouts; decides by event time; says windows, alerts and training."""
