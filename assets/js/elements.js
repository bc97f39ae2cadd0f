// Small custom elements: a moment, a running clock, the connection. One timer drives all that runs.

import { stream } from "./stream.js";
import { attr, text } from "./dom.js";
import { ago, dayOf, fullOf, isToday, lasting, running, timeOf, utcOf } from "./format.js";

const ticking = new Set();
let timer = 0;

function tick() {
	if (document.hidden) return;
	for (const element of ticking) element.tick();
}

function run(element) {
	ticking.add(element);
	if (!timer) timer = setInterval(tick, 1_000);
}

function rest(element) {
	ticking.delete(element);
	if (ticking.size === 0) {
		clearInterval(timer);
		timer = 0;
	}
}
document.addEventListener("visibilitychange", tick);

/** `<sb-time at="…" as="clock|day|ago|full">`: a `<time>` in the viewer's zone, UTC on hover. */
class Moment extends HTMLElement {
	static observedAttributes = ["at", "as"];
	#time = document.createElement("time");

	connectedCallback() {
		if (!this.#time.isConnected) this.replaceChildren(this.#time);
		this.tick();
		if (this.getAttribute("as") === "ago") run(this);
	}
	disconnectedCallback() {
		rest(this);
	}
	attributeChangedCallback() {
		if (this.isConnected) this.tick();
	}
	tick() {
		const at = this.getAttribute("at");
		if (!at || Number.isNaN(Date.parse(at))) {
			text(this.#time, "–");
			return;
		}
		attr(this.#time, "datetime", at);
		attr(this.#time, "title", `${fullOf(at)}\n${utcOf(at)}`);
		const as = this.getAttribute("as") ?? "clock";
		if (as === "ago") text(this.#time, ago(at));
		else if (as === "full") text(this.#time, fullOf(at));
		else if (as === "day" || (as === "clock" && !isToday(at))) text(this.#time, `${dayOf(at)}, ${timeOf(at)}`);
		else text(this.#time, timeOf(at));
	}
}

/** `<sb-clock since="…" until="…" as="running|lasting">`: how long something lasts. */
class Clock extends HTMLElement {
	static observedAttributes = ["since", "until"];

	connectedCallback() {
		this.classList.add("fig");
		this.tick();
		if (!this.getAttribute("until")) run(this);
	}
	disconnectedCallback() {
		rest(this);
	}
	attributeChangedCallback() {
		if (!this.isConnected) return;
		if (this.getAttribute("until")) rest(this);
		this.tick();
	}
	tick() {
		const since = Date.parse(this.getAttribute("since") ?? "");
		const until = Date.parse(this.getAttribute("until") ?? "") || Date.now();
		const length = until - since;
		text(this, Number.isNaN(since) ? "–" : this.getAttribute("as") === "lasting" ? lasting(length) : running(length));
	}
}

const CONNECTION = { connecting: "Connecting", live: "Live", polling: "No stream: every 5 s", lost: "No connection" };

/** `<sb-connection>`: how figures come in. */
class Connection extends HTMLElement {
	#dot = document.createElement("i");
	#words = document.createElement("span");
	#draw = () => {
		this.dataset.state = stream.state;
		text(this.#words, CONNECTION[stream.state]);
	};
	connectedCallback() {
		this.className = "conn";
		this.setAttribute("role", "status");
		this.replaceChildren(this.#dot, this.#words);
		stream.addEventListener("state", this.#draw);
		this.#draw();
	}
	disconnectedCallback() {
		stream.removeEventListener("state", this.#draw);
	}
}

customElements.define("sb-time", Moment);
customElements.define("sb-clock", Clock);
customElements.define("sb-connection", Connection);
