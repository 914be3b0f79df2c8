"""The demo: a year of flights through the whole loop, watched, and counted by a reader that believes nobody.

plan.py       what is to be shown                     run.py       from the first process to the last check
pace.py       how fast event time may pass            holds.py     why it stands still
feeder.py     publishes departures and landings       follower.py  reads what the bus says, live
lags.py       how far consumers are behind            kills.py     SIGKILL at random
picture.py    what is known so far                    view.py      the picture in a terminal, or as lines
settle.py     has everything come to rest?
counting.py   exactly one prediction an event, counted from the raw topics
quality.py    served quality against a version's own artifact
lifecycles.py runs, versions, rollouts and alerts from the lifecycle topics
traces.py     one trace a lifecycle, asked from Zipkin
resolving.py  one call tells all that stands behind a prediction
checks.py     what must hold                          report.py    all of it as one JSON
"""
