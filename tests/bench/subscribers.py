"""Sync, blocking. Many subscribers to an engine's events, in a process of their own.

Arguments: SOCKET COUNT EVENTS. Prints ``ready`` when all have the head of their answer, then waits until each
has been told ``EVENTS`` tags of images, and prints the monotonic time of the last one, which compares with
that of other processes.
"""

import selectors
import socket
import sys
import time

MARK = b'"Action":"tag"'


def subscribe(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    connection.sendall(b"GET /events HTTP/1.1\r\nHost: engine\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"{path}: no answer to GET /events")
        head += piece
    return connection


def main(path: str, count: int, events: int) -> None:
    selector = selectors.DefaultSelector()
    for _ in range(count):
        connection = subscribe(path)
        selector.register(connection, selectors.EVENT_READ, [0, b""])
    print("ready", flush=True)
    waiting = count
    while waiting:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            received = key.fileobj.recv(1 << 18)
            if not received:
                raise ConnectionError(f"a subscriber was cut off with {key.data[0]} of {events} events")
            # A mark may lie across two reads; its beginning is kept for the next one.
            data = key.data[1] + received
            key.data[0] += data.count(MARK)
            key.data[1] = data[-len(MARK) + 1 :]
            if key.data[0] >= events:
                selector.unregister(key.fileobj)
                waiting -= 1
    print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
