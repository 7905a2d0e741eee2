"""A registry with bad luck: passes requests on to a real one and spoils some of the answers.

`Faults(upstream)` serves on loopback from a thread. Rules are functions of a request that return None
(pass on) or a fault; each request is recorded.
"""

import base64
import http.client
import http.server
import json
import threading
import urllib.parse

CUT, TAMPER, RESET, SHORT = "cut", "tamper", "reset", "short"


class Seen:
    """One request as it came: method, path, headers, and how often the same was asked before."""

    def __init__(self, method, path, headers, count):
        self.method, self.path, self.headers, self.count = method, path, headers, count

    @property
    def is_blob(self):
        return "/blobs/sha256:" in self.path and self.method == "GET"

    @property
    def is_manifest(self):
        return "/manifests/" in self.path


class Faults:
    def __init__(self, upstream, rule, token=None):
        self.upstream, self.rule, self.token = upstream, rule, token
        self.seen, self.lock = [], threading.Lock()
        handler = type("Handler", (_Handler,), {"faults": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def record(self, method, path, headers):
        with self.lock:
            count = sum(1 for s in self.seen if s.path == path and s.method == method)
            self.seen.append(Seen(method, path, headers, count))
            return self.seen[-1]


class _Handler(http.server.BaseHTTPRequestHandler):
    faults = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_any(self):
        seen = self.faults.record(self.command, self.path, dict(self.headers.items()))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.faults.token and self.token(seen):
            return
        fault = self.faults.rule(seen)
        if fault == RESET:
            self.close_connection = True
            self.connection.shutdown(2)
        elif isinstance(fault, tuple):
            self.answer(fault[0], fault[1], b'{"errors":[{"code":"UNAVAILABLE","message":"bad luck"}]}')
        else:
            self.forward(body, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def token(self, seen):
        """Bearer tokens as registries hand them out; True when the request was answered here."""
        user, password, token = self.faults.token
        if self.path.startswith("/token"):
            want = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
            if self.headers.get("Authorization") == want:
                self.answer(200, {"Content-Type": "application/json"}, json.dumps({"token": token, "expires_in": 300}).encode())
            else:
                self.answer(401, {}, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}')
            return True
        if self.headers.get("Authorization") == "Bearer " + token:
            return False
        parts = urllib.parse.urlsplit(self.path).path.split("/")
        scope = f',scope="repository:{"/".join(parts[2:-2])}:pull"' if len(parts) > 4 else ""
        self.answer(401, {"WWW-Authenticate": f'Bearer realm="http://{self.faults.host}/token",service="tests"{scope}'},
                    b'{"errors":[{"code":"UNAUTHORIZED","message":"a token, please"}]}')
        return True

    def answer(self, status, headers, body):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def forward(self, body, fault):
        conn = http.client.HTTPConnection(self.faults.upstream, timeout=60)
        conn.putrequest(self.command, self.path, skip_accept_encoding=True)
        for key, value in self.headers.items():
            if key.lower() not in ("host", "authorization", "connection"):
                conn.putheader(key, value)
        conn.endheaders(body or None)
        reply = conn.getresponse()
        data = reply.read()
        conn.close()
        self.send_response(reply.status)
        for key, value in reply.headers.items():
            if key.lower() in ("transfer-encoding", "connection", "content-length"):
                continue
            if key.lower() == "location":
                value = value.replace(self.faults.upstream, self.faults.host)
            self.send_header(key, value)
        length = reply.headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
        if fault == SHORT:
            data = data[:len(data) // 2]
            length = str(len(data))
        if fault == TAMPER and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1:]
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == CUT:
            self.wfile.write(data[:len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
        else:
            self.wfile.write(data)
