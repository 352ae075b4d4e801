// Runs before NEST Desktop: points it at this server with the visitor's token, or sends a visitor who is not signed in to do so.
{
  // A sign-in by cookie gets a token for this: sessions only, for 12 hours, ended by the sign-out. NEST Desktop reads it as soon as its
  // own script runs, so that this one waits for the answer.
  const ask = () => {
    const request = new XMLHttpRequest();
    request.open("POST", "../v1/auth/desktop", false);
    try { request.send(); } catch { return null; }
    if (request.status === 200) return JSON.parse(request.responseText).token;
    if (request.status === 409) return "";  // a server without accounts
    if (request.status === 403) {
      let said = {};
      try { said = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
      if (said.code === "password_change_required") return null;
      window.alert(`NEST Desktop needs sessions, which you may not make.\n\n${said.detail ?? ""}`);
      return undefined;
    }
    return null;
  };
  const token = sessionStorage.getItem("myelin-token") ?? ask();
  if (token === null) {
    location.replace("../app/?next=desktop");
  } else if (token === undefined) {
    location.replace("../app/");
  } else {
    localStorage.setItem("nest-backend-store",
      JSON.stringify({ state: { enabled: true, loadedFromAssets: true, url: location.origin } }));
    sessionStorage.setItem("nest-backend-store", JSON.stringify({ state: { accessToken: token } }));
  }

  // A kernel that was lost is told before its models are asked for; NEST Desktop resets it with each simulation anyway.
  const headers = { NESTServerAuth: token ?? "", "Content-Type": "application/json" };
  if (token !== null && token !== undefined)
    fetch("../api/GetKernelStatus", { method: "POST", headers, body: '"network_size"' }).then(async (answer) => {
      if (answer.status !== 400) return;
      const { message } = await answer.json();
      if (!message?.startsWith("KernelLost")) return;
      if (!window.confirm(`${message}\n\nReset the kernel now?`)) return;
      await fetch("../api/ResetKernel", { headers });
      location.reload();
    }).catch(() => {});

  // NEST Desktop 4.2 reads its projects before its models are stored, when both come quickly at a first visit: its Simulate button
  // is then dead until a reload. From a server this near, the projects have to wait a little.
  const fetchNow = window.fetch;
  window.fetch = async (resource, options) => {
    if (/\/workspaces\/nest\/projects\/[^/]+\.json/.test(String(resource.url ?? resource)))
      await new Promise((resolve) => setTimeout(resolve, 500));
    return fetchNow(resource, options);
  };

  // Its service worker would keep pages of an older server; the server sends none, and a former one is removed.
  navigator.serviceWorker?.getRegistrations().then((all) => all.forEach((one) => one.unregister()));
}
