"""Prometheus metrics of the gateway; every name stands in ops/telemetry.yaml first."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("modelbus_gateway_requests_total", "Inference requests answered.", ["model", "status"])
SECONDS = Histogram("modelbus_gateway_request_seconds", "From an inference request to its answer.", ["model"])
IN_FLIGHT = Gauge("modelbus_gateway_in_flight_rows", "Rows that wait for their predictions.")
