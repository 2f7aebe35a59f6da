#!/usr/bin/env python3
"""Records what stores answer, as seeds for fuzzing: an HTTP proxy that keeps one short answer of every sort.

    record_answers.py KIND SERVER FOLDER   listens on a port of this machine, which it prints; on TERM it writes
                                           FOLDER/KIND/SERVER-NN.txt in the form of tests/src/fuzz/answers.rs

A site uses it when its settings say `proxy = "http://127.0.0.1:PORT"`; its address has to end in `/exclave`. Listings are
cut to their first three objects and their first three prefixes, bodies of objects to 64 bytes.
"""

import http.client
import http.server
import pathlib
import re
import signal
import sys
import threading
import urllib.parse

PREFIX = "exclave/"
BODY_BYTES_MAX = 16 << 10
OBJECT_BYTES_MAX = 64
MAKES_DIRECTORY = "(makes a directory)"
ENTRIES_MAX = 3
ENTRY = re.compile(rb"<(Contents|CommonPrefixes|Blob|BlobPrefix|D:response)>.*?</\1>", re.S)
# What a proxy takes off, and what says nothing but when.
DROPPED = {"connection", "transfer-encoding", "keep-alive"}

lock = threading.Lock()
scripts = []  # [operation, [answers], where it was]


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes everything on and notes what came back."""

    protocol_version = "HTTP/1.1"

    def pass_on(self):
        url = urllib.parse.urlsplit(self.path)
        target = urllib.parse.urlunsplit(("", "", url.path, url.query, ""))
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length) if length else None
        upstream = http.client.HTTPConnection(url.netloc, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in DROPPED}
        upstream.request(self.command, target, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in DROPPED]
        self.send_response_only(answer.status)
        for name, value in kept:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in kept):
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        with lock:
            note(self.command, url, self.headers, answer.status, kept, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PROPFIND = do_MKCOL = do_OPTIONS = pass_on

    def log_message(self, *_):
        pass


def note(method, url, asked, status, headers, content):
    """Adds an answer to the operation that it belongs to."""
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    lists = query.get("list-type") == "2" or query.get("comp") == "list"
    if lists or method == "PROPFIND":
        content = shortened(content)
    elif method == "GET" and status < 300 and not url.query:
        content = content[:OBJECT_BYTES_MAX]
    if len(content) > BODY_BYTES_MAX:
        return
    answer = (status, headers, content)
    if lists:
        below = query.get("prefix", "").removeprefix(PREFIX)
        verb = "children" if "delimiter" in query else "list"
        more = query.get("continuation-token") or query.get("marker")
        add(f"{verb} {below}", below, answer, more and scripts and scripts[-1][0] == f"{verb} {below}")
    elif method == "PROPFIND":
        below = url.path.partition(f"/{PREFIX}")[2].rstrip("/") + "/"
        # A walk asks for what it has just found.
        above = scripts[-1][2] if scripts else None
        if above and below != above and below.startswith(above):
            add(f"list {above}", above, answer, True)
        else:
            add(f"children {below}", below, answer, False)
    else:
        operation = operation_of(method, query, asked)
        # A put whose directory isn't there makes it and is sent again.
        to_last = operation == "put" and bool(scripts) and scripts[-1][2] == MAKES_DIRECTORY
        if operation:
            add(operation, None, answer, to_last)
        elif method == "MKCOL" and scripts and scripts[-1][0] == "put":
            scripts[-1][2] = MAKES_DIRECTORY
            add("put", None, answer, True)


def operation_of(method, query, asked):
    """What a site was asked for when it sent this."""
    if method == "POST":
        return "delete"
    if "versioning" in query:
        return "versioning"
    if "object-lock" in query or query.get("restype") == "container":
        return "lock"
    if method == "GET" and asked.get("range"):
        first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", asked["range"]).groups()
        return f"range {first} {int(last) + 1}"
    if method == "PUT":
        return "create" if asked.get("if-none-match") else "put"
    return {"GET": "get", "HEAD": "length", "DELETE": "delete"}.get(method)


def add(operation, where, answer, to_last):
    if to_last:
        scripts[-1][0] = operation
        scripts[-1][1].append(answer)
    else:
        scripts.append([operation, [answer], where])


def shortened(content):
    """A listing with no more than its first entries of each sort."""
    seen = {}

    def keep(match):
        seen[match[1]] = seen.get(match[1], 0) + 1
        return match[0] if seen[match[1]] <= ENTRIES_MAX else b""

    return ENTRY.sub(keep, content)


def write(folder, server):
    """Writes the shortest script of each sort: the same operation, statuses, names of headers, and elements."""
    sorts = {}
    for operation, answers, _ in scripts:
        sort = (operation.split(" ")[0],) + tuple(
            (status, tuple(sorted(name.lower() for name, _ in headers)), frozenset(re.findall(rb"<[\w:]+", content)))
            for status, headers, content in answers[:2]
        )
        text = operation.encode() + b"\n" + b"\n%%\n".join(written(answer) for answer in answers[:8])
        if sort not in sorts or len(text) < len(sorts[sort]):
            sorts[sort] = text
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(sorted(sorts.values())):
        (folder / f"{server}-{number:02}.txt").write_bytes(text)
    print(f"{len(scripts)} operations, {len(sorts)} sorts")


def written(answer):
    status, headers, content = answer
    head = [f"HTTP/1.1 {status}"] + [f"{name.lower()}: {value}" for name, value in headers]
    return "\n".join(head).encode() + b"\n\n" + content


def main():
    kind, server, folder = sys.argv[1:]
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=proxy.shutdown).start())
    print(proxy.server_port, flush=True)
    proxy.serve_forever()
    write(pathlib.Path(folder) / kind, server)


if __name__ == "__main__":
    main()
