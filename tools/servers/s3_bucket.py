"""Makes a bucket at an S3 server, as whoever sets up a store would: signed by Signature Version 4, standard library only.

    S3_ACCESS_KEY=.. S3_SECRET_KEY=.. python3 s3_bucket.py ENDPOINT REGION BUCKET [DAYS]

With DAYS it has versions and an object lock: what is put stays for so long, and nobody may lift that.
"""

import datetime
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def main():
    endpoint, region, bucket, *days = sys.argv[1:]
    send = lambda query="", body=b"", headers=None: signed(f"{endpoint}/{bucket}", query, body, headers or {}, region)
    if not days:
        send()
        return
    send(headers={"x-amz-bucket-object-lock-enabled": "true"})
    rule = f"<Mode>COMPLIANCE</Mode><Days>{int(days[0])}</Days>"
    send("object-lock", document(
        "ObjectLockConfiguration",
        f"<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{rule}</DefaultRetention></Rule>",
    ))


def document(root, inside):
    return f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{root}>'.encode()


def signed(url, query, body, headers, region):
    parts = urllib.parse.urlsplit(url)
    now = datetime.datetime.now(datetime.timezone.utc)
    day = now.strftime("%Y%m%d")
    headers = {
        "content-type": "application/xml",
        "host": parts.netloc,
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
    } | headers
    names = ";".join(sorted(headers))
    listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    # A sub-resource is a parameter without a value.
    canonical_query = f"{query}=" if query else ""
    canonical = "\n".join(["PUT", parts.path, canonical_query, listed, names, headers["x-amz-content-sha256"]])
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["S3_SECRET_KEY"]).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"{os.environ['S3_ACCESS_KEY']}/{scope}"
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    request = urllib.request.Request(url + (f"?{query}" if query else ""), method="PUT", data=body, headers=headers)
    try:
        urllib.request.urlopen(request, timeout=60).read()
    except urllib.error.HTTPError as error:
        sys.exit(f"s3_bucket: {request.full_url}: HTTP {error.code}: {error.read(1000).decode(errors='replace')}")


main()
