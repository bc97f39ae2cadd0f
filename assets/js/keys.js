// Keyboard shortcuts, and the sheet that names them. They can be switched off: single keys disturb who dictates.

import { h, keep, recall, within } from "./dom.js";
import { dialog } from "./ui.js";

const STORED = "shortcuts";
let pages = [];
let waiting = 0;

const on = () => recall(STORED) !== "off";

const key = (...names) =>
	h(
		"dd",
		names.flatMap((name, i) => [i > 0 && " ", h("kbd", name)]),
	);
const line = (words, ...names) => h("div", h("dt", words), key(...names));

/** The `?` sheet. */
export function sheet() {
	if (document.querySelector("dialog")) return;
	dialog(
		"Keyboard shortcuts",
		(close) => [
			h(
				"dl",
				{ class: "keys" },
				pages.map((page) => line(page.name, "g", page.key)),
				line("Search the logs", "/"),
				line("Next, previous row", "j", "k"),
				line("Open the row", "Enter"),
				line("Shorter, longer window", "[", "]"),
				line("Refresh", "r"),
				line("This sheet", "?"),
				line("Close, leave a field", "Esc"),
			),
			h(
				"label.switch.on-good",
				h("input", {
					type: "checkbox",
					checked: on(),
					onchange: (event) => keep(STORED, event.target.checked ? "on" : "off"),
				}),
				"Use single-key shortcuts",
			),
			h("div.actions", h("button.btn", { autofocus: true, onclick: () => close() }, "Close")),
		],
		{ wide: true },
	);
}

/** Listens for shortcuts; what a page does with `/ j k [ ] r` it takes from the event `shortcut` at `document`. */
export function shortcuts(known, go) {
	pages = known;
	document.addEventListener("keydown", (event) => {
		if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || !on()) return;
		const target = event.composedPath()[0];
		const types =
			target instanceof HTMLElement &&
			(target.isContentEditable || target.matches("textarea, select, input:not([type=checkbox], [type=radio])"));
		if (types) {
			if (event.key === "Escape") target.blur();
			return;
		}
		if (document.querySelector("dialog[open]")) return;
		if (waiting) {
			clearTimeout(waiting);
			waiting = 0;
			const page = pages.find((one) => one.key === event.key);
			if (page) {
				event.preventDefault();
				go(page.path);
			}
			return;
		}
		if (event.key === "g") waiting = setTimeout(() => (waiting = 0), 1_200);
		else if (event.key === "?") {
			event.preventDefault();
			sheet();
		} else if (event.key === "/" && within(location.pathname) !== "/logs") {
			event.preventDefault();
			go("/logs?focus=search");
		} else if ("/jk[]r".includes(event.key) && event.key.length === 1) {
			const heard = !document.dispatchEvent(new CustomEvent("shortcut", { detail: event.key, cancelable: true }));
			if (heard) event.preventDefault();
		}
	});
}

/** Tells a page of its shortcuts until it is closed. */
export function onShortcut(table) {
	const hear = (event) => {
		const work = table[event.detail];
		if (!work) return;
		event.preventDefault();
		work();
	};
	document.addEventListener("shortcut", hear);
	return () => document.removeEventListener("shortcut", hear);
}
