"""Trio-flavoured. One adapter per kernel interface or tool, without policy."""
