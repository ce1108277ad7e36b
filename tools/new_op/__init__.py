"""The skeleton of an op: `make new-op NAME=...`."""
