"""Lifecycle events, one module a service: past tense, frozen, versioned."""
