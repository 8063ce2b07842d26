"""Sync, pure. What the engine knows: records, allowed moves, validation, specs. No I/O and no loop."""
