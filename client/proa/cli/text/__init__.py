"""Sync, pure. What commands print: tables, Go templates, sizes and times as people read them."""
