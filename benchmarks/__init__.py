"""Benchmarks: the provider compared with a baseline, the Rust provider's algorithm, the plain ORM and other libraries.

`make bench` runs all benchmarks, `make bench-quick` a short version; see `python -m benchmarks --help`.

    implementations/   implementations of the same operations: baseline, rust, orm, ours
    peers/             other libraries that store workflows in PostgreSQL
    sections/          the benchmarks, one module per section
"""
