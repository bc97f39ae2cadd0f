// The demo's bar: switches that break the stand-ins.

import { h, keyed, ours } from "./dom.js";
import { icon } from "./icons.js";
import { say, toast } from "./ui.js";

async function ask(method, body) {
	const response = await fetch(ours("/demo/faults"), {
		method,
		credentials: "same-origin",
		headers: body ? { "content-type": "application/json" } : {},
		body: body ? JSON.stringify(body) : undefined,
	});
	const document = await response.json().catch(() => null);
	if (!response.ok) throw new Error(document?.error?.message ?? `The server answered ${response.status}.`);
	return document.data;
}

export function demoBar() {
	const switches = h("span.row.wrap", { id: "demo-faults" });
	const draw = (faults) =>
		keyed(
			switches,
			faults,
			(fault) => fault.name,
			(fault) => {
				const box = h("input", { type: "checkbox", role: "switch", name: fault.name, onchange: () => set(fault, box) });
				const node = h("label.switch", { title: fault.about }, box, fault.label);
				node.update = (now) => (box.checked = now.open);
				return node;
			},
		);
	async function set(fault, box) {
		try {
			draw(await ask("POST", { name: fault.name, open: box.checked }));
			say(`${fault.label}: ${box.checked ? "broken" : "well again"}`);
		} catch (error) {
			box.checked = !box.checked;
			toast("bad", error.message);
		}
	}
	ask("GET").then(draw, (error) => toast("bad", error.message));
	return h(
		"section.demo",
		{ "aria-label": "Demo" },
		h("span.row", icon("flask"), h("strong", "Demo")),
		h("span.hide-s.muted", "Break something and watch calls get through:"),
		h("fieldset", h("legend.unseen", "Faults of the stand-ins"), switches),
	);
}
