"""A small synchronous workflow host (`host.py`) and a demo of the store's guarantees (`run.py`).

`host`, `definitions` and `pointers` depend on the library only. `run` needs rich (extra `cli`) and, without a URL, the
embedded server (extra `embedded`).
"""
