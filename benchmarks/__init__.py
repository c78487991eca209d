"""How fast the provider is: against the floor, the Rust provider's algorithm, the plain ORM way, and its peers.

`make bench` runs all of it, `make bench-quick` a small form; see `python -m benchmarks --help`.

    ways/       the ways of doing the same work: floor, rust, orm, ours
    peers/      other libraries that keep workflows in PostgreSQL
    sections/   what is measured, a module each
"""
