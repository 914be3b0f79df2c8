"""The stack as plain processes: Kafka, PostgreSQL, S3 and Zipkin from wheels and jars, without Docker and without root.

stack.py      what runs and how others reach it      up.py          stack and services until a signal
services.py   the processes of modelbus              supervisor.py  keeps processes running
kafka.py, postgres.py, s3.py, zipkin.py              one part each: how to prepare, run and probe it
jars.py       Java parts, locked by checksum         child.py       a program that dies with its parent
folder.py     ports, secrets and the lock of a stack probes.py      is it ready?
warm.py       ahead of time: jars and class archives java.py        how a JVM is run
"""
