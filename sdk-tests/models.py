"""An embedding model: a small endpoint of the test's process."""
import contextlib
import http.server
import json
import threading

from harness import Server


def number(item):
    """What stands for a text or an image: its number, its length; 0 for any other text."""
    if isinstance(item, str):
        item = {"text": item}
    try:
        text = float(item.get("text", "0"))
    except ValueError:
        text = 0.0
    return text + len(item.get("image", ""))


class Model(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that turns a text into its number four times; at the text "fail" it gives up."""

    def do_POST(self):
        inputs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        data = [{"index": n, "embedding": [number(item)] * 4} for n, item in enumerate(inputs)]
        body = json.dumps({"data": data})
        self.send_response(500 if "fail" in inputs else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(binary):
    """A server with the endpoint as model `m`, which is its default, and as `v`, which reads images."""
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{model.server_address[1]}/v1/embeddings"
    models = f'{{m={{url="{url}",model="x"}},v={{url="{url}",model="y",images=true}}}}'
    own = Server(binary, KNARR_EMBEDDING=models, KNARR_EMBEDDING_DEFAULT="m").start()
    yield own
    own.stop()
    own.remove()
    model.shutdown()
