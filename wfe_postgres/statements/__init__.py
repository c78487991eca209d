"""Every statement of the hot path, built once, at import, from the mapped classes."""
