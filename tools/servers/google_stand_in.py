"""A stand-in for Google Cloud Storage's XML interface, in memory, on loopback. Standard library only.

    python3 google_stand_in.py PORT

Not a server that anyone else wrote: it answers what our client asks, as the client expects it. What passes here shows that
the client's path to Google works from end to end, and nothing of what Google does. It knows objects with generations,
`x-goog-if-generation-match`, ranges, uploads in parts, copies, and lists in pages; it checks nobody's credentials.
"""

import dataclasses
import email.utils
import hashlib
import http.server
import itertools
import re
import sys
import threading
import time
import urllib.parse
import uuid
from xml.sax.saxutils import escape, unescape

PAGE = 1000
SMALLEST_PART = 5 << 20
KEPT_HEADERS = {"content-type", "cache-control", "content-disposition", "content-encoding", "content-language"}
QUOTES = {"&quot;": '"'}


@dataclasses.dataclass
class Object:
    data: bytes
    headers: dict
    generation: int
    modified: float = dataclasses.field(default_factory=time.time)

    @property
    def etag(self):
        return etag(self.data)


@dataclasses.dataclass
class Upload:
    key: tuple
    headers: dict
    parts: dict = dataclasses.field(default_factory=dict)


class Refused(Exception):
    """A status and an error code to answer with."""


def etag(data):
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class Store:
    """All buckets. Every method runs under the lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.objects = {}
        self.uploads = {}
        self.generations = itertools.count(time.time_ns() // 1000)

    def put(self, key, data, headers, generation=None):
        current = self.objects.get(key)
        if generation is not None and generation != str(current.generation if current else 0):
            raise Refused(412, "PreconditionFailed")
        self.objects[key] = Object(data, headers, next(self.generations))
        return self.objects[key]

    def get(self, key):
        if key not in self.objects:
            raise Refused(404, "NoSuchKey")
        return self.objects[key]

    def upload(self, number):
        if number not in self.uploads:
            raise Refused(404, "NoSuchUpload")
        return self.uploads[number]

    def complete(self, number, wanted, generation=None):
        upload = self.upload(number)
        if any(etag(upload.parts.get(part, b"")) != tag for part, tag in wanted):
            raise Refused(400, "InvalidPart")
        parts = [upload.parts[part] for part, _ in wanted]
        if any(len(part) < SMALLEST_PART for part in parts[:-1]):
            raise Refused(400, "EntityTooSmall")
        found = self.put(upload.key, b"".join(parts), upload.headers, generation)
        del self.uploads[number]
        return found

    def page(self, bucket, prefix, delimiter, after, limit):
        """Keys and common prefixes behind `after`, and whether there are more."""
        keys, prefixes = [], []
        for name in sorted(name for at, name in self.objects if at == bucket and name.startswith(prefix)):
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            entry = name if end < 0 else name[:end + len(delimiter)]
            if entry <= after or entry in prefixes[-1:]:
                continue
            if len(keys) + len(prefixes) == limit:
                return keys, prefixes, True
            (keys if end < 0 else prefixes).append(entry)
        return keys, prefixes, False


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer_request(self):
        url = urllib.parse.urlsplit(self.path)
        bucket, _, name = url.path.removeprefix("/").partition("/")
        self.key = (urllib.parse.unquote(bucket), urllib.parse.unquote(name))
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        self.query = {word: values[0] for word, values in query.items()}
        body = self.body()
        try:
            with self.server.store.lock:
                status, headers, answer = self.act(body)
        except Refused as refused:
            status, code = refused.args
            headers, answer = {}, document("Error", f"<Code>{code}</Code><Message>{code}</Message>")
        self.send_response(status)
        if status != 204:
            headers = {"Content-Length": len(answer), **headers}
        for header, value in headers.items():
            self.send_header(header, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer_request

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def act(self, body):
        match self.command, bool(self.key[1]):
            case "GET", False:
                return self.versioning() if "versioning" in self.query else self.list()
            case "POST" | "PUT" | "DELETE", True if "uploadId" in self.query or "uploads" in self.query:
                return self.upload(body)
            case "PUT", True:
                return self.put(body)
            case "DELETE", True:
                self.server.store.get(self.key)
                del self.server.store.objects[self.key]
                return 204, {}, b""
            case "GET" | "HEAD", True:
                return self.get()
        raise Refused(501, "NotImplemented")

    def put(self, body):
        store, headers = self.server.store, self.kept_headers()
        source = self.headers.get("x-goog-copy-source")
        if source:
            bucket, _, name = urllib.parse.unquote(source).removeprefix("/").partition("/")
            copied = store.get((bucket, name))
            body, headers = copied.data, copied.headers
        found = store.put(self.key, body, headers, self.headers.get("x-goog-if-generation-match"))
        answer = document("CopyObjectResult", f"<ETag>{escape(found.etag)}</ETag>") if source else b""
        return 200, marks(found), answer

    def get(self):
        found = self.server.store.get(self.key)
        if self.query.get("generation", str(found.generation)) != str(found.generation):
            raise Refused(404, "NoSuchKey")
        if self.headers.get("If-Match", "*") not in ("*", found.etag):
            raise Refused(412, "PreconditionFailed")
        headers = {**found.headers, **marks(found), "Accept-Ranges": "bytes",
                   "Last-Modified": email.utils.formatdate(found.modified, usegmt=True)}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return 200, {**headers, "Content-Length": len(found.data)}, found.data
        length = len(found.data)
        first, last = wanted.groups()
        start = int(first) if first else max(0, length - int(last))
        end = min(length, int(last) + 1) if first and last else length
        if start >= length:
            raise Refused(416, "InvalidRange")
        return 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{length}"}, found.data[start:end]

    def upload(self, body):
        store, number = self.server.store, self.query.get("uploadId")
        if "uploads" in self.query:
            number = uuid.uuid4().hex
            store.uploads[number] = Upload(self.key, self.kept_headers())
            return 200, {}, document("InitiateMultipartUploadResult", f"{self.named()}<UploadId>{number}</UploadId>")
        upload = store.upload(number)
        if self.command == "PUT":
            upload.parts[int(self.query["partNumber"])] = body
            return 200, {"ETag": etag(body)}, b""
        if self.command == "DELETE":
            del store.uploads[number]
            return 204, {}, b""
        wanted = [
            (int(re.search(r"<PartNumber>(\d+)<", part)[1]), unescape(re.search(r"<ETag>(.*?)</ETag>", part)[1], QUOTES))
            for part in re.findall(r"<Part>(.*?)</Part>", body.decode(), re.S)
        ]
        found = store.complete(number, wanted, self.headers.get("x-goog-if-generation-match"))
        answer = document("CompleteMultipartUploadResult", f"{self.named()}<ETag>{escape(found.etag)}</ETag>")
        return 200, marks(found), answer

    def versioning(self):
        return 200, {}, document("VersioningConfiguration", "")

    def list(self):
        store, bucket = self.server.store, self.key[0]
        after = self.query.get("continuation-token") or self.query.get("start-after", "")
        limit = min(PAGE, int(self.query.get("max-keys", PAGE)))
        keys, prefixes, more = store.page(
            bucket, self.query.get("prefix", ""), self.query.get("delimiter", ""), after, limit)
        told = f"<Name>{escape(bucket)}</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            told += f"<NextContinuationToken>{escape(max(keys + prefixes))}</NextContinuationToken>"
        for name in keys:
            found = store.objects[bucket, name]
            modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.modified))
            told += (f"<Contents><Key>{escape(name)}</Key><Size>{len(found.data)}</Size>"
                     f"<LastModified>{modified}</LastModified><ETag>{escape(found.etag)}</ETag></Contents>")
        told += "".join(f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes)
        return 200, {"Content-Type": "application/xml"}, document("ListBucketResult", told)

    def named(self):
        return f"<Bucket>{escape(self.key[0])}</Bucket><Key>{escape(self.key[1])}</Key>"

    def kept_headers(self):
        return {name: value for name, value in self.headers.items()
                if name.lower() in KEPT_HEADERS or name.lower().startswith("x-goog-meta-")}


def marks(found):
    return {"ETag": found.etag, "x-goog-generation": found.generation}


def document(root, inner):
    return f'<?xml version="1.0" encoding="UTF-8"?><{root}>{inner}</{root}>'.encode()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    store = Store()


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
