// The frame: navigation, routes, shortcuts.

import "./elements.js";
import { h, keep, ours, show, text, within } from "./dom.js";
import { icon } from "./icons.js";
import { call } from "./api.js";
import { timeOf } from "./format.js";
import { stream } from "./stream.js";
import { shortcuts, sheet } from "./keys.js";
import { failed, say, stage, toast } from "./ui.js";
import { alerts as activeAlerts } from "./state.js";
import { viewer } from "./viewer.js";
import { demoBar } from "./demo.js";
import { PAGES } from "./pages.js";

const NAMED = PAGES.filter((page) => page.name);

const main = h("main", { id: "main", tabindex: "-1" });
const badge = h("span.badge", { hidden: true });
const links = NAMED.map((page) =>
	h("a", { href: page.path }, icon(page.icon), h("span", page.name), page.path === "/alerts" && badge),
);

/** Says on every page that the server is gone, and since when; what is shown below loses its colors. */
function lostBar() {
	const said = h("span");
	const bar = h("div.lost-bar", { role: "alert", hidden: true }, icon("warn"), said);
	stream.addEventListener("state", () => {
		const lost = stream.state === "lost";
		bar.hidden = !lost;
		document.documentElement.toggleAttribute("data-lost", lost);
		if (lost) text(said, `No connection to Switchboard since ${timeOf(stream.lostSince)}. What is below is old.`);
	});
	return bar;
}

function themeButton() {
	const order = ["system", "light", "dark"];
	const button = h("button.btn.quiet.square", { type: "button" }, icon("theme"));
	const now = () => document.documentElement.dataset.theme ?? "system";
	const label = () => {
		button.setAttribute("aria-label", `Colors: ${now()}. Change`);
		button.title = `Colors: ${now()}`;
	};
	button.addEventListener("click", () => {
		const next = order[(order.indexOf(now()) + 1) % order.length];
		if (next === "system") delete document.documentElement.dataset.theme;
		else document.documentElement.dataset.theme = next;
		keep("theme", next);
		label();
		say(`Colors: ${next}`);
	});
	label();
	return button;
}

async function signOut() {
	try {
		await call("/session", { method: "DELETE" });
	} catch (error) {
		if (error.status !== 401) {
			toast("bad", error.message);
			return;
		}
	}
	stream.stop();
	location.assign(ours("/login"));
}

function frame() {
	const side = h(
		"header",
		{ class: "side" },
		h(
			"div.side-in",
			{},
			h("a.brand", { href: "/" }, h("img", { src: "/assets/favicon.svg", alt: "" }), "Switchboard"),
			h("nav.nav", { "aria-label": "Pages" }, links),
			h(
				"div",
				{ class: "side-foot" },
				h("div.who.row.hide-s", h("sb-connection")),
				h(
					"div",
					{ class: "row" },
					h("span.who.cut.hide-s", { title: `Signed in as ${viewer.name} (${viewer.role})` }, viewer.name),
					h(
						"span.row",
						themeButton(),
						h(
							"button.btn.quiet.square.hide-s",
							{ "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", onclick: sheet },
							icon("keys"),
						),
						h(
							"button.btn.quiet.square",
							{ "aria-label": "Sign out", title: "Sign out", id: "sign-out", onclick: signOut },
							icon("out"),
						),
					),
				),
			),
		),
	);
	const column = h("div.column", lostBar(), viewer.demo && demoBar(), main);
	document.body.replaceChildren(
		h("a.skip", { href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, "Skip to content"),
		h("div.frame", side, column),
		...stage,
	);
}

let close = [];
let shown = "";

function find(path) {
	const trimmed = path.length > 1 ? path.replace(/\/+$/, "") : path;
	const page = PAGES.find(({ path }) => path === trimmed);
	const [, above, call] = /^(.+\/)([^/]+)$/.exec(trimmed) ?? [];
	const one = PAGES.findIndex(({ path }) => path.startsWith(`${above}{`));
	const { path: named } = PAGES.slice(0, one).findLast(({ name }) => name) ?? {};
	return page ?? (one > 0 && { ...PAGES[one], path: named, call: decodeURIComponent(call) });
}

/** Opens the page of the address. */
function route({ focus = true } = {}) {
	const page = find(within(location.pathname));
	close.forEach((end) => end());
	close = [];
	links.forEach((link, i) => {
		if (page && NAMED[i].path === page.path) link.setAttribute("aria-current", "page");
		else link.removeAttribute("aria-current");
	});
	shown = location.pathname;
	main.replaceChildren();
	if (!page) {
		title("Not found");
		show(
			main,
			h("h1", { tabindex: "-1" }, "There is no such page"),
			h("p", h("a", { href: "/" }, "Go to the live view")),
		);
	} else {
		title(page.call ? `${page.one ?? "Call"} ${page.call}` : page.name);
		try {
			close = page.open(main, { call: page.call, query: new URLSearchParams(location.search), title, replace });
		} catch (error) {
			console.error(error);
			show(
				main,
				failed(error, () => route()),
			);
		}
	}
	scrollTo(0, 0);
	if (focus) {
		(main.querySelector("h1") ?? main).focus({ preventScroll: true });
		say(document.title);
	}
}

const title = (words) => {
	document.title = `${words} · Switchboard`;
};

/** Goes to another page of the dashboard. */
export function go(path) {
	history.pushState(null, "", ours(path));
	route();
}

/** Changes the address without opening anything: filters, the window. */
function replace(path) {
	history.replaceState(history.state, "", ours(path));
}

document.addEventListener("click", (event) => {
	const link = event.composedPath().find((node) => node instanceof HTMLAnchorElement);
	if (
		!link ||
		event.defaultPrevented ||
		event.button ||
		event.metaKey ||
		event.ctrlKey ||
		event.shiftKey ||
		event.altKey
	)
		return;
	if (link.target || link.hasAttribute("download") || link.origin !== location.origin || !find(within(link.pathname)))
		return;
	event.preventDefault();
	go(within(link.pathname) + link.search);
});
addEventListener("popstate", () => route({ focus: shown !== location.pathname }));
addEventListener(
	"error",
	(event) => main.isConnected && event.error && toast("bad", `Something in this page failed: ${event.error.message}`),
);

frame();
shortcuts(NAMED, go);
activeAlerts.watch((open) => {
	badge.hidden = !open?.length;
	text(badge, open?.length ?? "");
	badge.setAttribute("aria-label", `${open?.length ?? 0} open`);
});
stream.start();
route({ focus: false });
