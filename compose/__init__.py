"""Two ways to compose the same stack: embedded/ as processes on this machine, the compose files as containers."""
