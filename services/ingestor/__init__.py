"""Ingestor: hears stream.applied, model.applied, model.registered and erasure.ordered; decides which records of data,
labels and predictions are good, keeps them in Delta tables exactly once and parks the others, and takes out of both
what is to be erased; says dataset.committed, entity.erased.

One process consumes and commits at the same time, several share the partitions of all topics. Tables are compacted as
they grow. Any version can be read for `keep_days`, and for ever when a model was trained on it: model.registered names
the cut, so registration must not come later than that. Pins are kept since this service hears of them: lower
`keep_days`, ten years, only where no version was registered before.

Records are judged by the declaration that is known when they are read, looked up once a second; scorers learn of
it on their own, from Kafka. So around a change of a stream's spec the two may judge a record differently: it may have
a row but no prediction, or a prediction and a dead letter. A producer avoids that by a pause around the change.
"""
