"""Sync, pure. The rows of each list: which fields there are and what they say."""
