"""Serves on $PORT until told to stop."""

import http.server
import os
import signal
import sys

from app import Handler

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
port = int(os.environ["PORT"])
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
print(f"guestbook on port {server.server_port} as uid {os.getuid()}", flush=True)
server.serve_forever()
