"""A small strict S3: it checks every signature by an own reading of the specification, and knows no more than tests need."""

import hashlib
import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID, SECRET, REGION, BUCKET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-south-1", "crm-files"
PAGE = 2


class S3Server(ThreadingHTTPServer):
    """Objects by key, and uploads in parts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.completed_parts = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


class _Asked(BaseHTTPRequestHandler):
    server: S3Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self._is_signed(parts.path, query, body):
            return self._say(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>")
        bucket, _, key = unquote(parts.path)[1:].partition("/")
        if bucket != BUCKET:
            return self._say(404, "<Error><Code>NoSuchBucket</Code></Error>")
        getattr(self, f"_{self.command.lower()}")(key, query, body)
        return None

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  # the names are those of the standard library

    def _is_signed(self, path: str, query: dict[str, str], body: bytes) -> bool:
        fields = dict(part.strip().split("=", 1) for part in self.headers["authorization"].partition(" ")[2].split(","))
        stamp, names = self.headers["x-amz-date"], fields["SignedHeaders"].split(";")
        payload = self.headers["x-amz-content-sha256"]
        if payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()) or "host" not in names:
            return False
        # The specification: each name and value encoded by itself, sorted by the encoded name.
        spelled = "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()))
        lines = [self.command, quote(unquote(path), safe="/-_.~"), spelled]
        lines += [f"{name}:{self.headers[name].strip()}" for name in names] + ["", ";".join(names), payload]
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = ("AWS4" + SECRET).encode()
        for part in (stamp[:8], REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return fields["Credential"] == f"{KEY_ID}/{scope}" and fields["Signature"] == expected

    def _get(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "list-type" not in query:
            found = self.server.objects.get(key)
            if found is None:
                return self._say(404, "<Error><Code>NoSuchKey</Code></Error>")
            return self._say(200, found)
        keys = sorted(key for key in self.server.objects if key.startswith(query["prefix"]))
        flat = [key for key in keys if query["delimiter"] not in key[len(query["prefix"]) :]]
        start = int(query.get("continuation-token", "0"))
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-03-01T10:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(self.server.objects[key]).hexdigest()}&quot;</ETag>"
            f"<Size>{len(self.server.objects[key])}</Size></Contents>"
            for key in flat[start : start + PAGE]
        )
        more = len(flat) > start + PAGE
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        return self._say(200, f'<ListBucketResult xmlns="{namespace}">{items}{truncated}</ListBucketResult>')

    def _put(self, key: str, query: dict[str, str], body: bytes) -> None:
        tag = {"etag": f'"{hashlib.md5(body).hexdigest()}"'}
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
        elif "x-amz-copy-source" in self.headers:
            source = unquote(self.headers["x-amz-copy-source"]).removeprefix(f"/{BUCKET}/")
            if source not in self.server.objects:
                return self._say(404, "<Error><Code>NoSuchKey</Code></Error>")
            self.server.objects[key] = self.server.objects[source]
            return self._say(200, "<CopyObjectResult/>")
        else:
            self.server.objects[key] = body
        return self._say(200, "", tag)

    def _post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            upload = f"upload/{len(self.server.uploads)}+"
            self.server.uploads[upload] = {}
            return self._say(200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        parts = self.server.uploads.pop(query["uploadId"])
        told = body.decode().count("<PartNumber>")
        if told != len(parts) or any(hashlib.md5(part).hexdigest() not in body.decode() for part in parts.values()):
            return self._say(200, "<Error><Code>InvalidPart</Code></Error>")
        self.server.completed_parts = told
        self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return self._say(200, "<CompleteMultipartUploadResult/>")

    def _delete(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.objects.pop(key, None)
        return self._say(204, "")

    def _say(self, status: int, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        raw = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {**(headers or {}), "content-length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
