"""Sync, blocking. `python -m proa` and the console script `proa`."""

from proa.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
