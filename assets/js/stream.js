// One event stream for all tabs of this browser: the tab that holds the lock reads it, the others listen to that tab.
// Without a stream, views are told to ask every five seconds.

import { signIn, unattended } from "./api.js";
import { ours } from "./dom.js";

const TOPICS = ["call", "metrics", "dialer", "alert", "settings", "beat"];
/** The server beats every two seconds: after so long without a word from it, nobody is there. */
const SILENT_MS = 4_300;
const LOOK_MS = 250;
/** Without a stream, the server is asked so often whether it is there, and waited for so long. */
const PROBE_MS = 2_000;
const POLL_MS = 5_000;
const RETRY_MS = [1_000, 2_000, 4_000, 8_000, 15_000];

export class Stream extends EventTarget {
	#source = null;
	#state = "connecting";
	#heard = 0;
	#failures = 0;
	#retry = 0;
	#poll = 0;
	#look = 0;
	#probed = 0;
	#lostSince = 0;
	#channel = null;
	#leads = false;
	#stopped = false;

	/** `connecting`, `live`, `polling` (no stream, asked every 5 s) or `lost` (the server cannot be reached). */
	get state() {
		return this.#state;
	}

	/** When something last came in, as milliseconds of the epoch; 0 before. */
	get heardAt() {
		return this.#heard;
	}

	/** When the server was last heard of before it was lost, as milliseconds of the epoch. */
	get lostSince() {
		return this.#lostSince;
	}

	start() {
		this.#heard = Date.now();
		this.#look = setInterval(() => this.#watch(), LOOK_MS);
		if ("BroadcastChannel" in window && navigator.locks) {
			this.#channel = new BroadcastChannel("switchboard-events");
			this.#channel.addEventListener("message", ({ data }) => this.#told(data));
			// Held until the tab is closed.
			navigator.locks.request("switchboard-events", () => {
				if (this.#stopped) return undefined;
				this.#leads = true;
				this.#open();
				return new Promise(() => {});
			});
			this.#channel.postMessage({ ask: true });
		} else {
			this.#leads = true;
			this.#open();
		}
		// A page asked by itself and got an answer, or none.
		document.addEventListener("reached", ({ detail: ok }) => {
			if (ok) this.#heard = Date.now();
			else if (this.#state === "live" && this.#leads) this.#again();
			if (ok && this.#state === "lost") this.#become("polling");
			else if (!ok && this.#state !== "live") this.#become("lost");
		});
	}

	stop() {
		this.#stopped = true;
		clearTimeout(this.#retry);
		clearInterval(this.#poll);
		clearInterval(this.#look);
		this.#source?.close();
		this.#channel?.close();
	}

	/** Looks whether the server is still there: it may be gone without closing anything. */
	#watch() {
		const now = Date.now();
		if (this.#state !== "live" && now - this.#probed >= PROBE_MS) this.#probe();
		if (this.#state === "lost" || now - this.#heard < SILENT_MS) return;
		this.#become("lost");
		if (this.#leads) this.#open();
	}

	async #probe() {
		this.#probed = Date.now();
		const answer = await fetch("/health", { cache: "no-store", signal: AbortSignal.timeout(PROBE_MS) }).catch(
			() => null,
		);
		if (!this.#stopped) document.dispatchEvent(new CustomEvent("reached", { detail: answer?.ok === true }));
	}

	#open() {
		this.#source?.close();
		const source = new EventSource(ours("/api/v1/events"));
		this.#source = source;
		source.addEventListener("open", () => {
			this.#failures = 0;
			this.#pass({ state: "live" });
		});
		source.addEventListener("error", () => {
			if (source !== this.#source) return;
			if (source.readyState === EventSource.CLOSED) this.#again();
			else if (this.#state !== "lost") this.#pass({ state: "polling" });
		});
		for (const topic of [...TOPICS, "reset"]) {
			source.addEventListener(topic, (event) => {
				this.#pass({ topic, data: JSON.parse(event.data) });
			});
		}
	}

	/** The server refused the stream: asks why once, then tries again, more and more rarely. */
	async #again() {
		this.#source?.close();
		this.#source = null;
		if (this.#state !== "lost") this.#pass({ state: "polling" });
		const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)];
		this.#failures += 1;
		const answer = await fetch(ours("/api/v1/dialers"), { headers: unattended(), credentials: "same-origin" }).catch(
			() => null,
		);
		if (answer?.status === 401) {
			signIn();
			return;
		}
		if (!answer) this.#pass({ state: "lost" });
		clearTimeout(this.#retry);
		if (!this.#stopped) this.#retry = setTimeout(() => this.#open(), wait);
	}

	#pass(message) {
		this.#told(message);
		this.#channel?.postMessage(message);
	}

	#told(message) {
		if (message.ask) {
			if (this.#leads) this.#channel.postMessage({ state: this.#state });
			return;
		}
		if (message.state) {
			if (message.state === "live") this.#heard = Date.now();
			this.#become(message.state);
		} else {
			this.#heard = Date.now();
			this.#become("live");
			this.dispatchEvent(new CustomEvent(message.topic, { detail: message.data }));
		}
	}

	#become(state) {
		if (state === this.#state) return;
		const was = this.#state;
		this.#state = state;
		if (state === "lost") this.#lostSince = this.#heard;
		clearInterval(this.#poll);
		if (state === "polling" || state === "lost") {
			if (was === "live") this.#probe();
			this.#poll = setInterval(() => this.dispatchEvent(new Event("poll")), POLL_MS);
			this.dispatchEvent(new Event("poll"));
		} else if (state === "live" && was !== "connecting") {
			// What happened in between may have been missed.
			this.dispatchEvent(new CustomEvent("reset"));
		}
		this.dispatchEvent(new Event("state"));
	}
}

export const stream = new Stream();

/** Hears topics until what it gives is called. */
export function hear(topics, work) {
	for (const topic of topics) stream.addEventListener(topic, work);
	return () => topics.forEach((topic) => stream.removeEventListener(topic, work));
}
