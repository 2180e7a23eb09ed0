"""A guestbook over HTTP, from the standard library."""

import http.server
import json
import pathlib

from moods import mood

DATA = pathlib.Path("data/entries.json")


def page(entries):
    """The entries as lines of text, each with its mood."""
    return "".join(f"{e['name']} ({mood(e['text'])}): {e['text']}\n" for e in entries)


class Handler(http.server.BaseHTTPRequestHandler):
    """GET / lists the entries; GET /health says ok."""

    def do_GET(self):
        if self.path == "/health":
            body = "ok\n"
        elif self.path == "/":
            body = page(json.loads(DATA.read_text()))
        else:
            self.send_error(404)
            return
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass
