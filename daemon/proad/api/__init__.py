"""asyncio-flavoured. The Docker Engine API: parse, call down once, answer."""
