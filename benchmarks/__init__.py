"""Measurements that back what the documents say about speed and memory. Run from the repository's root."""
