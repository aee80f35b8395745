"""A bare loop over a Unix socket with the frames of the child wire, for `pagewire-bench children`.

Usage: bare.py STYLE PATH. It has what any program needs: a length, `json`, and the style's way to run a function.
"""

import asyncio
import json
import queue
import socket
import sys
import threading

STYLE, PATH = sys.argv[1:]


def answer(body):
    message = json.loads(body)
    value = {"text": message["params"]["text"]}
    reply = json.dumps({"t": "result", "id": message["id"], "value": value}).encode()
    return len(reply).to_bytes(4, "big") + reply


def bodies(sock):
    """Reads as much as there is, as a buffered reader does."""
    data = b""
    while received := sock.recv(65536):
        data += received
        start = 0
        while len(data) - start >= 4:
            stop = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if stop > len(data):
                break
            yield data[start + 4 : stop]
            start = stop
        data = data[start:]


def blocking(sock):
    for body in bodies(sock):
        sock.sendall(answer(body))


def threads(sock):
    work, lock = queue.SimpleQueue(), threading.Lock()

    def run():
        while True:
            reply = answer(work.get())
            with lock:
                sock.sendall(reply)

    for _ in range(8):
        threading.Thread(target=run, daemon=True).start()
    for body in bodies(sock):
        work.put(body)


async def asynchronous(sock):
    reader, writer = await asyncio.open_unix_connection(sock=sock)

    async def run(body):
        writer.write(answer(body))

    tasks = set()
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(4), "big")
            task = asyncio.create_task(run(await reader.readexactly(length)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except asyncio.IncompleteReadError:
        pass


connection = socket.socket(socket.AF_UNIX)
connection.connect(PATH)
if STYLE == "asyncio":
    asyncio.run(asynchronous(connection))
else:
    {"blocking": blocking, "threads": threads}[STYLE](connection)
