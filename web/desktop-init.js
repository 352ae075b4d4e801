// Runs before NEST Desktop: points it at this server with the visitor's token, or sends a visitor without one to sign in.
{
  const token = sessionStorage.getItem("myelin-token");
  if (token === null) {
    location.replace("../app/?next=desktop");
  } else {
    localStorage.setItem("nest-backend-store",
      JSON.stringify({ state: { enabled: true, loadedFromAssets: true, url: location.origin } }));
    sessionStorage.setItem("nest-backend-store", JSON.stringify({ state: { accessToken: token } }));
  }

  // A kernel that was lost is told before its models are asked for; NEST Desktop resets it with each simulation anyway.
  const headers = { NESTServerAuth: token ?? "", "Content-Type": "application/json" };
  if (token !== null)
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
