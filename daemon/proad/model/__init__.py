"""Sync, pure. What the engine knows: records, tables of allowed moves, validation, specs. No I/O and no loop."""
