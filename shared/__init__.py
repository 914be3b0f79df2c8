"""The plumbing that six services share, one noun a module. Imports `schemas` only."""
