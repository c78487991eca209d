"""Connections that commit one statement after the other, in processes: `python -m benchmarks.writers`."""

import subprocess
import sys
import threading
import time

import psycopg

PER_PROCESS = 16


def require(condition: object, otherwise: str) -> None:
    """RuntimeError: it is not so."""
    if not condition:
        raise RuntimeError(otherwise)


def commits_per_second(url: str, statement: str, writers: int, seconds: float) -> float:
    """By so many connections, in processes of at most 16, with a thread for each."""
    sizes = [min(PER_PROCESS, writers - begin) for begin in range(0, writers, PER_PROCESS)]
    commands = [[sys.executable, "-m", __name__, url, statement, str(size), str(seconds)] for size in sizes]
    processes = [subprocess.Popen(it, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for it in commands]
    for process in processes:
        require(process.stdout is not None and process.stdout.readline() == "ready\n", "a writer did not start")
    for process in processes:
        if process.stdin is not None:
            process.stdin.write("go\n")
            process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in processes)


def write(url: str, statement: str, writers: int, seconds: float) -> None:
    """Print how many statements were committed a second, by so many threads."""
    connections = [psycopg.connect(url, autocommit=True) for _ in range(writers)]
    for connection in connections:
        connection.execute(statement.encode(), prepare=True)
    print("ready", flush=True)
    sys.stdin.readline()
    counts = [0] * writers
    end = time.monotonic() + seconds

    def commit(number: int) -> None:
        while time.monotonic() < end:
            connections[number].execute(statement.encode(), prepare=True)
            counts[number] += 1

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counts) / seconds)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
