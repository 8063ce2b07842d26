"""Trio-flavoured. The SQLite state and the event journal, with one writer."""
