"""Deployer: hears of approved versions, orders and measurements; decides who serves which share of the traffic, and its
scorers serve it, each record exactly once; says rollout.changed, rollout.switched, rollout.ended and what is withdrawn:
as predictions.withdrawn at once, and prediction by prediction in `corrections.<model>` (corrections.py), exactly once.

Three processes: the rollout (`python -m services.deployer`), scorers (`….scorer`), and a gateway (`….gateway`) that
asks the scorers on behalf of callers over HTTP.
"""
