"""Trio-flavoured. The use cases, one verb a function."""
