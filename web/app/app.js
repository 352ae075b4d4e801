// The plain page: sign in by token, see sessions, run a first network, go on to NEST Desktop.
// The token lives in this tab's sessionStorage only; it reaches the page in the URL's fragment, which no server sees.

const byId = (id) => document.getElementById(id);
let token = sessionStorage.getItem("myelin-token") ?? "";
let open = false; // the server asks for no token

const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("token")) {
  token = fragment.get("token");
  history.replaceState(null, "", location.pathname + location.search);
}

async function api(path, options = {}) {
  const headers = { ...(options.headers ?? {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (options.body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  const type = response.headers.get("Content-Type") ?? "";
  const body = type.includes("json") ? await response.json() : await response.text();
  if (!response.ok) throw Object.assign(new Error(body.detail ?? body.message ?? body.title ?? String(body)), { status: response.status });
  return body;
}

// NEST Desktop reads its server and token from these keys of the same origin.
function pointDesktopHere() {
  localStorage.setItem("nest-backend-store",
    JSON.stringify({ state: { enabled: true, loadedFromAssets: true, url: location.origin } }));
  sessionStorage.setItem("nest-backend-store", JSON.stringify({ state: { accessToken: token } }));
}

async function enter() {
  const health = await api("../v1/health");
  byId("level").textContent = `NEST ${health.engines?.nest?.version ?? "is starting"} · isolation: ${health.isolation}`;
  const status = await api("../v1/status");
  open = status.auth === "none";
  sessionStorage.setItem("myelin-token", token);
  pointDesktopHere();
  byId("signin").hidden = true;
  byId("home").hidden = false;
  byId("signout").hidden = open;
  const rows = { Version: status.version, User: status.user, Isolation: status.isolation, Uptime: `${Math.round(status.uptime_s)} s` };
  byId("server").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => {
    const dt = document.createElement("dt"); dt.textContent = name;
    const dd = document.createElement("dd"); dd.textContent = value;
    return [dt, dd];
  }));
  const next = new URLSearchParams(location.search).get("next");
  if (next === "desktop") { location.replace("../desktop/#/nest"); return; }
  showSessions();
  setInterval(showSessions, 2000);
}

const size = (bytes) => bytes ? `${(bytes / 1048576).toFixed(0)} MiB` : "";

async function showSessions() {
  let list;
  try { list = (await api("../v1/sessions")).sessions; } catch { return; }
  byId("no-sessions").hidden = list.length > 0;
  byId("sessions").replaceChildren(...list.map((session) => {
    const row = document.createElement("tr");
    const progress = session.progress?.done != null ? ` ${Math.round(session.progress.done * 100)} %` : "";
    const texts = [session.name, session.engine, session.state + progress, session.queued || "", size(session.memory_bytes),
      new Date(session.created_at).toLocaleTimeString()];
    for (const text of texts) row.insertCell().textContent = text;
    const end = document.createElement("button");
    end.type = "button"; end.textContent = "End";
    end.onclick = async () => { end.disabled = true; await api(`../v1/sessions/${session.id}`, { method: "DELETE" }).catch(() => {}); showSessions(); };
    row.insertCell().append(end);
    return row;
  }));
}

const script = `import nest
nest.ResetKernel()
nest.rng_seed = 1
excitatory = nest.Create("iaf_psc_alpha", 800)
inhibitory = nest.Create("iaf_psc_alpha", 200)
noise = nest.Create("poisson_generator", params={"rate": 8000.0})
recorder = nest.Create("spike_recorder")
everyone = excitatory + inhibitory
nest.Connect(noise, everyone, syn_spec={"weight": 20.0})
nest.Connect(excitatory, everyone, {"rule": "fixed_indegree", "indegree": 80}, {"weight": 20.0, "delay": 1.5})
nest.Connect(inhibitory, everyone, {"rule": "fixed_indegree", "indegree": 20}, {"weight": -100.0, "delay": 1.5})
nest.Connect(everyone, recorder)
nest.Simulate(500.0)
events = recorder.events
`;

function drawRaster({ times, senders }) {
  const canvas = byId("raster"), paint = canvas.getContext("2d");
  canvas.hidden = false;
  paint.clearRect(0, 0, canvas.width, canvas.height);
  const colours = [getComputedStyle(document.body).color, "#c0392b"];
  for (let i = 0; i < times.length; ++i) {
    paint.fillStyle = colours[senders[i] > 800 ? 1 : 0];
    paint.fillRect(times[i] / 500 * canvas.width, canvas.height - senders[i] / 1000 * canvas.height, 1.5, 1.5);
  }
}

byId("example").onclick = async () => {
  const button = byId("example"), status = byId("example-status");
  button.disabled = true; byId("stop").hidden = false;
  status.textContent = "Simulating …";
  const began = performance.now();
  try {
    const { data } = await api("../s/example/exec", { method: "POST", body: JSON.stringify({ source: script, return: "events" }) });
    drawRaster(data);
    status.textContent = `${data.times.length} spikes in ${((performance.now() - began) / 1000).toFixed(2)} s (black excitatory, red inhibitory).`;
  } catch (error) {
    status.textContent = error.message;
  } finally {
    button.disabled = false; byId("stop").hidden = true;
    showSessions();
  }
};

byId("stop").onclick = async () => {
  const { sessions } = await api("../v1/sessions");
  const example = sessions.find((session) => session.name === "example" && session.engine === "nest");
  if (example) await api(`../v1/sessions/${example.id}/interrupt`, { method: "POST" }).catch(() => {});
};

byId("signin-form").onsubmit = (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  enter().catch((error) => { byId("signin-error").textContent = error.status === 401 ? "This token is not known here." : error.message; });
};
byId("signout").onclick = () => {
  sessionStorage.removeItem("myelin-token");
  sessionStorage.removeItem("nest-backend-store");
  location.reload();
};

enter().catch(() => { byId("signin").hidden = false; });
