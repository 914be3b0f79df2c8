"""Pure decisions of the deployer: rollouts, the test they stand on, and which entity meets which arm."""
