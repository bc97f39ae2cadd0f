// The JSON API: one function, one kind of failure.

import { ours, within } from "./dom.js";

export class ApiError extends Error {
	constructor(status, error) {
		super(error?.message ?? (status ? `The server answered ${status}.` : "The server cannot be reached."));
		this.status = status;
		this.type = error?.type ?? "Network";
		this.details = error?.details ?? {};
		this.requestId = error?.request_id;
		/** The message with what is wrong with each field. */
		this.whole = [this.message, ...Object.entries(this.details).map(([name, what]) => `${name} ${what}`)].join(" ");
	}
}

/** No answer takes longer; a server that is stopped never answers. */
const PATIENCE_MS = 30_000;

const reached = (ok) => document.dispatchEvent(new CustomEvent("reached", { detail: ok }));

/** Where the trace of a call is shown. */
export const callPath = (id) => `/logs/${encodeURIComponent(id)}`;

/** Leads to the sign-in page and back here afterwards. */
export function signIn() {
	location.assign(ours(`/login?next=${encodeURIComponent(within(location.pathname) + location.search)}`));
}

const ATTENDED_MS = 60_000;
let touched = Date.now();
for (const sign of ["pointerdown", "keydown", "wheel"])
	addEventListener(sign, () => (touched = Date.now()), { capture: true, passive: true });

/** Says of a request that nobody is at the screen, so that it does not keep the session alive. */
export const unattended = () => (Date.now() - touched > ATTENDED_MS ? { "x-unattended": "true" } : {});

/** Asks the API and gives the whole document; `null` where there is none. */
export async function call(path, { method = "GET", body, signal } = {}) {
	const headers = { accept: "application/json", ...unattended() };
	const isText = typeof body === "string";
	if (body !== undefined) headers["content-type"] = isText ? "application/toml" : "application/json";
	let response;
	try {
		const late = AbortSignal.timeout(PATIENCE_MS);
		response = await fetch(ours(`/api/v1${path}`), {
			method,
			headers,
			signal: signal ? AbortSignal.any([signal, late]) : late,
			body: body === undefined || isText ? body : JSON.stringify(body),
			credentials: "same-origin",
		});
	} catch (error) {
		if (error.name === "AbortError") throw error;
		reached(false);
		throw new ApiError(0);
	}
	reached(true);
	if (response.status === 401) {
		signIn();
		throw new ApiError(401, { message: "The session has ended." });
	}
	const document = response.status === 204 ? null : await response.json().catch(() => null);
	if (!response.ok) throw new ApiError(response.status, document?.error);
	return document;
}

export const get = (path, options) => call(path, options);
export const post = (path, body, options) => call(path, { method: "POST", body, ...options });

/** `?a=1&b=2` of what is set. */
export function query(values) {
	const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
	return set.length ? `?${new URLSearchParams(set)}` : "";
}
