#!/usr/bin/env python3
"""Stand-ins of Braze, Dialfire and Zendesk Talk on one loopback port, for tests of the packages.

    standins.py [PORT]      serves until it is ended; prints the port

Knows one caller, +4930123456, with lead score 87; every other number is unknown to it. The dialers take every call.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StandIns(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            return json.loads(raw or b"{}")
        except ValueError:
            return {}

    def do_GET(self):
        if self.path.startswith("/api/v2/channels/voice/stats/current_queue_activity"):
            self.answer(200, {"current_queue_activity": {"agents_online": 3, "calls_waiting": 0}})
        elif self.path.startswith("/api/v2/channels/voice/lines"):
            self.answer(200, {"lines": [], "count": 0})
        elif self.path.startswith("/api/campaigns/") and self.path.endswith("/tasks/"):
            self.answer(200, [{"data": {"name": "inbound_hot", "inbound": True}}])
        elif self.path.startswith(("/api/campaigns/", "/api/tenants/")):
            self.answer(200, {})
        else:
            self.answer(404, {})

    def do_POST(self):
        asked = self.body()
        if self.path == "/users/export/ids":
            users = []
            if asked.get("phone") == "+4930123456":
                users = [{"external_id": "1", "custom_attributes": {"lead_score": 87}}]
            self.answer(201, {"users": users, "message": "success"})
        elif self.path.endswith("/contacts/create"):
            self.answer(200, {"data": {"$id": "C1", "$version": "1"}})
        elif self.path == "/api/v2/tickets":
            self.answer(201, {"ticket": {"id": 35436}})
        else:
            self.answer(404, {})

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that has gone is none of ours."""


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = Server(("127.0.0.1", port), StandIns)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
