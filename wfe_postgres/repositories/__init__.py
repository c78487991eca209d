"""One repository for each of the engine's interfaces, and the queries beyond them."""
