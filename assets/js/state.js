// What several pages share: which incidents are open.

import { get } from "./api.js";
import { throttle } from "./dom.js";
import { stream } from "./stream.js";

/** A value that pages watch, loaded once for all of them and again when the stream says that it changed. */
class Shared {
	#load;
	#watchers = new Set();
	#value = null;
	constructor(load, topics) {
		this.#load = load;
		this.refresh = throttle(() => this.#watchers.size && this.#ask(), 1_000);
		for (const topic of [...topics, "reset", "poll"]) stream.addEventListener(topic, this.refresh);
	}
	watch(watcher) {
		this.#watchers.add(watcher);
		if (this.#value) watcher(this.#value);
		this.refresh();
		return () => this.#watchers.delete(watcher);
	}
	async #ask() {
		try {
			this.#value = await this.#load();
		} catch {
			return;
		}
		for (const watcher of this.#watchers) watcher(this.#value);
	}
}

export const alerts = new Shared(async () => (await get("/alerts/active")).data, ["alert"]);
