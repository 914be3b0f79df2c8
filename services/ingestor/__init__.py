"""Ingestor: hears stream.applied and model.applied; decides which records of data, labels and predictions are good,
keeps them in Delta tables exactly once and parks the others; says dataset.committed.

Records are judged by the declaration that is known when they are committed, looked up once a second; scorers learn of
it on their own, from Kafka. So around a change of a stream's spec the two may judge a record differently: it may have
a row but no prediction, or a prediction and a dead letter. A producer avoids that by a pause around the change.
"""
