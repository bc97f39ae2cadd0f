// Who is signed in, as the server wrote it into the page.

const { user, role, version, demo } = document.documentElement.dataset;
export const viewer = { name: user ?? "", role: role ?? "viewer", isAdmin: role === "admin", version: version ?? "", demo: demo === "true" };
