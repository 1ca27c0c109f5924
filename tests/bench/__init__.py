"""Measures the engine from outside: `make bench`, `make bench-quick`; docs/performance.md."""
