"""What web pages elsewhere make a browser do to a server on localhost, in a real Chromium."""

import http.server
import threading

import pytest
from chromium import Chromium, needs_chromium

from .serving import running

pytestmark = [pytest.mark.slow, needs_chromium]

WEBSOCKET = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onmessage = () => resolve("answered");
  socket.onerror = () => resolve("refused");
  setTimeout(() => resolve("silent"), 5000);
})"""
POST = """async (url) => {
  const body = new FormData();
  body.append("audio", new Blob(["x"]), "a.wav");
  try {
    const response = await fetch(url, { method: "POST", body, mode: "no-cors" });
    return response.type === "opaque" ? "sent" : String(response.status);
  } catch { return "refused"; }
}"""
READ = """async (url) => {
  try { return String((await fetch(url)).status); } catch { return "refused"; }
}"""


@pytest.fixture
def elsewhere():
    """A page on another port of this machine."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<body></body>")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def chromium():
    chromium = Chromium("--host-resolver-rules=MAP evil.test 127.0.0.1")
    yield chromium
    chromium.close()


def counted(server, route: str, status: str) -> float:
    return server.service.metrics.requests.labels(route, status)._value.get()


def test_a_page_on_another_port(make, tmp_path, elsewhere, chromium):
    with running(make(), tmp_path) as server:
        page = chromium.run(chromium.browser.new_page())
        chromium.run(page.goto(f"http://localhost:{elsewhere}/"))
        for host in ("localhost", "127.0.0.1"):
            assert chromium.run(page.evaluate(WEBSOCKET, f"ws://{host}:{server.port}/v1/realtime")) == "refused"
            chromium.run(page.evaluate(POST, f"http://{host}:{server.port}/"))  # it is sent, and refused there
            assert chromium.run(page.evaluate(READ, f"http://{host}:{server.port}/v1/models")) == "refused"
        assert not server.service.sessions
        assert counted(server, "/", "200") == counted(server, "/", "400") == 0  # none came to where it is read


def test_a_name_that_resolves_to_this_machine(make, tmp_path, chromium):
    with running(make(), tmp_path) as server:
        page = chromium.run(chromium.browser.new_page())
        response = chromium.run(page.goto(f"http://evil.test:{server.port}/v1/models"))
        assert response.status == 403
        base = f"evil.test:{server.port}"
        assert chromium.run(page.evaluate(READ, f"http://{base}/v1/models")) in ("403", "refused")
        assert chromium.run(page.evaluate(WEBSOCKET, f"ws://{base}/v1/realtime")) == "refused"
        assert not server.service.sessions


def test_its_own_page_is_let_in(make, tmp_path, chromium):
    with running(make(), tmp_path) as server:
        page = chromium.run(chromium.browser.new_page(bypass_csp=True))  # the script isn't the page's own
        chromium.run(page.goto(f"http://127.0.0.1:{server.port}/docs"))
        assert chromium.run(page.evaluate(WEBSOCKET, f"ws://127.0.0.1:{server.port}/v1/realtime")) == "answered"
