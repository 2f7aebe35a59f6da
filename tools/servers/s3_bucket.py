"""Makes a bucket at an S3 server, as whoever sets up a store would: signed by Signature Version 4, standard library only.

    S3_ACCESS_KEY=.. S3_SECRET_KEY=.. python3 s3_bucket.py ENDPOINT REGION BUCKET [DAYS]

With DAYS it has versions and an object lock: what is put stays for so long, and nobody may lift that.

Tests that play a thief import `S3`.
"""

import base64
import datetime
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

BUCKET_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


def main():
    endpoint, region, bucket, *days = sys.argv[1:]
    s3 = S3(endpoint, region, bucket, os.environ["S3_ACCESS_KEY"], os.environ["S3_SECRET_KEY"])

    def send(query="", body=b"", headers=None):
        code, answer = s3.request("PUT", "", query, body, headers)
        if code // 100 != 2:
            sys.exit(f"s3_bucket: {bucket} {query}: HTTP {code}: {answer[:1000].decode(errors='replace')}")

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
    return f'<{root} xmlns="{BUCKET_XMLNS}">{inside}</{root}>'.encode()


class S3:
    """One bucket, with someone's credentials."""

    def __init__(self, endpoint, region, bucket, access_key, secret_key):
        self.endpoint, self.region, self.bucket = endpoint, region, bucket
        self.access_key, self.secret_key = access_key, secret_key

    def request(self, method, key="", query="", body=b"", headers=None):
        """The status and body of the answer. A query is as it travels, encoded; a name without a value is a sub-resource."""
        path = f"/{self.bucket}" + (f"/{urllib.parse.quote(key)}" if key else "")
        parts = urllib.parse.urlsplit(self.endpoint)
        now = datetime.datetime.now(datetime.timezone.utc)
        day = now.strftime("%Y%m%d")
        headers = {
            "content-type": "application/xml",
            "content-md5": base64.b64encode(hashlib.md5(body).digest()).decode(),
            "host": parts.netloc,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        } | (headers or {})
        names = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        pairs = [pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair]
        canonical = "\n".join([method, path, "&".join(sorted(pairs)), listed, names, headers["x-amz-content-sha256"]])
        scope = f"{day}/{self.region}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signing = ("AWS4" + self.secret_key).encode()
        for part in (day, self.region, "s3", "aws4_request"):
            signing = hmac.digest(signing, part.encode(), hashlib.sha256)
        signature = hmac.new(signing, to_sign.encode(), hashlib.sha256).hexdigest()
        credential = f"{self.access_key}/{scope}"
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        )
        url = self.endpoint + path + (f"?{query}" if query else "")
        request = urllib.request.Request(url, method=method, data=body or None, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


if __name__ == "__main__":
    main()
