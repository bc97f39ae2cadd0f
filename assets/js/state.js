// What several pages share: which incidents are open. What is not known is `null`: a page asserts nothing unanswered.

import { get } from "./api.js";
import { throttle } from "./dom.js";
import { stream } from "./stream.js";

/** After an answer that failed. */
const AGAIN_MS = 3_000;

/** A value that pages watch, loaded once for all of them and again when the stream says that it changed. */
class Shared {
	#load;
	#watchers = new Set();
	#value = null;
	#at = 0;
	constructor(load, topics) {
		this.#load = load;
		this.refresh = throttle(() => this.#watchers.size && this.#ask(), 1_000);
		for (const topic of [...topics, "reset", "poll"]) stream.addEventListener(topic, this.refresh);
		stream.addEventListener("state", () => stream.state === "lost" && this.#learn(null));
	}
	/** When the value was asked for, as milliseconds of the epoch. */
	get at() {
		return this.#at;
	}
	watch(watcher) {
		this.#watchers.add(watcher);
		watcher(this.#value);
		this.refresh();
		return () => this.#watchers.delete(watcher);
	}
	async #ask() {
		const asked = Date.now();
		try {
			const value = await this.#load();
			this.#at = asked;
			this.#learn(value);
		} catch {
			this.#learn(null);
			setTimeout(this.refresh, AGAIN_MS);
		}
	}
	#learn(value) {
		this.#value = value;
		for (const watcher of this.#watchers) watcher(value);
	}
}

export const alerts = new Shared(async () => (await get("/alerts/active")).data, ["alert"]);
