"""A small synchronous workflow host (`host.py`) and a demonstration of what the store promises (`run.py`).

`host`, `definitions` and `pointers` need nothing but the library; `run` shows its story with rich, of the extra
`cli`, and without a URL starts the server of the extra `embedded`.
"""
