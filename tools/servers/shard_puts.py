"""Looks at what moto was asked: whether shards were put create-only. Standard library only.

    shard_puts.py start ENDPOINT          from here on
    shard_puts.py create-only ENDPOINT    fails unless shards were put, and all of them with `If-None-Match: *`
"""

import json
import re
import sys
import urllib.request

# moto's threads write into one file, so long bodies may be cut by others' lines; what is looked for stands before them.
PUT = re.compile(r'\{"headers": (\{[^{}]*\}), "method": "PUT", "url": "[^"]*/shards/[^"]*"')


def main():
    what, endpoint = sys.argv[1:]
    if what == "start":
        recorder(endpoint, "reset-recording", "POST")
        recorder(endpoint, "start-recording", "POST")
        return
    recorder(endpoint, "stop-recording", "POST")
    puts = [json.loads(headers) for headers in PUT.findall(recorder(endpoint, "download-recording", "GET"))]
    conditional = [put for put in puts if {name.lower(): value for name, value in put.items()}.get("if-none-match") == "*"]
    print(f"Create-only at moto: {len(conditional)} of {len(puts)} puts of shards")
    sys.exit(not puts or len(conditional) != len(puts))


def recorder(endpoint, act, method):
    request = urllib.request.Request(f"{endpoint}/moto-api/recorder/{act}", method=method)
    return urllib.request.urlopen(request, timeout=60).read().decode(errors="replace")


main()
