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
}
