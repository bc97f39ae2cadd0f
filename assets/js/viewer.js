// Who is signed in, and the program's closed lists, as the server wrote them into the page.

const { user, role, version, demo, kinds, ends } = document.documentElement.dataset;
export const viewer = {
	name: user ?? "",
	role: role ?? "viewer",
	isAdmin: role === "admin",
	isOperator: role === "admin" || role === "operator",
	version: version ?? "",
	demo: demo === "true",
};

const list = (words) => (words ?? "").split(" ").filter(Boolean);
/** Every kind of record, and every way in which a call ends. */
export const lists = { kinds: list(kinds), ends: list(ends) };
