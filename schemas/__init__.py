"""The language: what may be said on the bus, by whom, and how it is declared. Imports nothing of modelbus."""
