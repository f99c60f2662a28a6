"""A web page of Python alone: it signs its users in, and the gateway brings them their orders.

    REALTIME_JWT_SECRET=... python3 app.py http://127.0.0.1:8080

The argument is the gateway. PORT is the page's port, default 8000; 0 picks a free one. Needs no packages."""
import base64, hashlib, hmac, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SECRET = os.environ["REALTIME_JWT_SECRET"].encode()
GATEWAY = sys.argv[1].replace("http", "ws", 1) + "/realtime"
PAGE = Path(__file__).with_name("page.html").read_text()


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(user, team):
    """A JSON Web Token of 10 minutes, with the claims that the rules of gateway.json compare."""
    claims = {"sub": user, "team": team, "exp": int(time.time()) + 600}
    parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = b".".join(parts)
    return (text + b"." + encoded(hmac.new(SECRET, text, hashlib.sha256).digest())).decode()


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        # A real application knows its user by a session. Here the address says it.
        user, team = query.get("user", ["ann"])[0], query.get("team", ["red"])[0]
        if url.path == "/token":
            self.answer("application/json", json.dumps({"token": token(user, team)}))
        elif url.path == "/":
            settings = {"gateway": GATEWAY, "team": team}
            safe = json.dumps(settings).replace("<", "\\u003c")
            self.answer("text/html; charset=utf-8", PAGE.replace("{settings}", safe))
        else:
            self.send_error(404)

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), App)
print(f"page http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
