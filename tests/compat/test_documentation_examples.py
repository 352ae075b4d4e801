"""The Bash function and the browser page that NEST's documentation shows, as a user would copy them (the address and the token are
the only changes), plus curl with a file."""

import http.server
import json
import subprocess
import threading

from browser import drive

BASH = r'''
NEST_API=%(url)s/api
nest-server-api() {
    if [ $# -eq 2 ]; then curl -s -H "NESTServerAuth: %(token)s" -H "Content-Type: application/json" -d "$2" $NEST_API/$1
    else curl -s -H "NESTServerAuth: %(token)s" $NEST_API/$1; fi
}
nest-server-api ResetKernel
nest-server-api Create '{"model": "iaf_psc_alpha", "n": 2}'
nest-server-api Create '{"model": "poisson_generator", "params": {"rate": 6500.0}}'
nest-server-api Create '{"model": "spike_recorder"}'
nest-server-api Connect '{"pre": [3], "post": [1,2], "syn_spec": {"weight": 10.0}}'
nest-server-api Connect '{"pre": [1,2], "post": [4]}'
nest-server-api Simulate '{"t": 1000.0}'
nest-server-api GetStatus '{"nodes": [4], "keys": "n_events"}'
'''


def test_bash_function(server, nest):
    script = BASH % {"url": server.url + nest.prefix, "token": server.token}
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert out[:7] == ["null", "[1,2]", "[3]", "[4]", "null", "null", "null"]
    assert 10 < json.loads(out[7])[0] < 1000


def test_curl_with_a_file(server, nest, tmp_path):
    path = tmp_path / "simulation_script.json"
    path.write_text(json.dumps({
        "source": "import nest\nnest.ResetKernel()\npg = nest.Create('poisson_generator', 1, {'rate': 6500.})\n"
                  "neurons = nest.Create('iaf_psc_alpha', 1000)\nsr = nest.Create('spike_recorder')\n"
                  "nest.Connect(pg, neurons, syn_spec={'weight': 10.})\nnest.Connect(neurons[::10], sr)\nnest.Simulate(1000.0)\n"
                  "n_events = nest.GetStatus(sr, 'n_events')[0]\nprint('Number of events:', n_events)\n",
        "return": "n_events"}))
    out = subprocess.run(["curl", "-s", "-H", "NESTServerAuth: " + server.token, "-H", "Content-Type: application/json",
                          "-d", "@%s" % path, server.url + nest.prefix + "/exec"], capture_output=True, timeout=120, check=True)
    answer = json.loads(out.stdout)
    assert answer["stdout"] == "Number of events: %d\n" % answer["data"] and answer["data"] > 500


PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"/></head><body><script>
function request(method, path, data, callback) {
  const xhr = new XMLHttpRequest();
  xhr.addEventListener("readystatechange", () => { if (xhr.readyState === 4) callback(xhr.status, xhr.responseText); });
  xhr.open(method, "%(url)s" + path);
  xhr.setRequestHeader('NESTServerAuth', '%(token)s');
  if (data === null) { xhr.send(null); return; }
  xhr.setRequestHeader('Access-Control-Allow-Headers', 'Content-Type');
  xhr.setRequestHeader('Content-Type', 'application/json');
  xhr.send(JSON.stringify(data));
}
window.results = {};
const keep = name => (status, text) => { window.results[name] = {status, text}; };
request("GET", "/", null, keep("version"));
request("GET", "/api/GetKernelStatus", null, keep("status"));
request("POST", "/api/GetDefaults", {"model": "iaf_psc_alpha"}, keep("defaults"));
request("POST", "/exec", {"source": "data = nest.GetDefaults('iaf_psc_alpha')", "return": "data"}, keep("script"));
</script></body></html>"""


def test_browser_page_from_another_origin(server, nest):
    page = (PAGE % {"url": server.url + nest.prefix, "token": server.token}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    try:
        results = drive("page.mjs", "http://127.0.0.1:%d/" % pages.server_port, "4")["results"]
    finally:
        pages.shutdown()
    assert {name: r["status"] for name, r in results.items()} == dict.fromkeys(("version", "status", "defaults", "script"), 200)
    assert json.loads(results["version"]["text"])["mpi"] is False
    assert json.loads(results["defaults"]["text"])["C_m"] == 250.0
    assert json.loads(results["script"]["text"])["data"]["C_m"] == 250.0
