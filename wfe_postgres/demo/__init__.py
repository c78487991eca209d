"""A demo of the host and of the store's guarantees (`run.py`).

It needs rich (extra `cli`) and, without a URL, the embedded server (extra `embedded`).
"""
