"""Sync, pure. One module for each group of commands; `proa.cli.registry` says which command is where."""
