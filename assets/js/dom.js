// Elements without markup strings: everything that is shown becomes a text node or an attribute.

const SVG = "http://www.w3.org/2000/svg";

/** What every path of ours begins with on this host, like `/calls`; mostly empty. */
export const BASE = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

/** A path of ours as the browser has to ask for it. */
export const ours = (path) => (typeof path === "string" && path.startsWith("/") ? BASE + path : path);

/** The path of an address of this host without what all of ours begin with. */
export const within = (path) => (BASE && path.startsWith(BASE) ? path.slice(BASE.length) || "/" : path);

function make(node, given) {
	const [props] = given;
	const named = props !== null && typeof props === "object" && !Array.isArray(props) && !(props instanceof Node);
	for (const [name, value] of named ? Object.entries(props) : []) {
		if (value === null || value === undefined || value === false) continue;
		if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
		else if (name === "data") Object.assign(node.dataset, value);
		else if (name === "value" || name === "checked" || name === "disabled" || name === "open") node[name] = value;
		else node.setAttribute(name, value === true ? "" : name === "href" || name === "src" ? ours(value) : value);
	}
	node.append(...shown(named ? given.slice(1) : given));
	return node;
}

const shown = (children) =>
	children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** An element: `h("p.muted", { onclick: f }, "text", child)` is tag and classes, attributes and listeners, children. */
export function h(what, ...given) {
	const [tag, ...classes] = what.split(".");
	const node = document.createElement(tag);
	if (classes.length) node.className = classes.join(" ");
	if (tag === "button") node.type = "button";
	return make(node, given);
}

/** The same for SVG, without the short form of classes. */
export const s = (tag, ...given) => make(document.createElementNS(SVG, tag), given);

/** Sets text only where it differs, so that nothing is laid out again for nothing. */
export function text(node, value) {
	const wanted = value === null || value === undefined ? "" : String(value);
	if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute only where it differs; `null` takes it away. */
export function attr(node, name, value) {
	if (value === null || value === undefined || value === false) node.removeAttribute(name);
	else {
		const wanted = String(name === "href" ? ours(value) : value);
		if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
	}
}

/**
 * Keeps the children of `parent` in step with `items`: found by key, changed in place, moved where the order differs.
 * `create(item)` makes a node that may carry `update(item)`.
 */
export function keyed(parent, items, key, create) {
	const known = (parent.keyedNodes ??= new Map());
	const wanted = new Set();
	let place = parent.firstElementChild;
	for (const item of items) {
		const id = key(item);
		if (wanted.has(id)) continue;
		wanted.add(id);
		let node = known.get(id);
		if (!node) {
			node = create(item);
			known.set(id, node);
		}
		node.update?.(item);
		if (node === place) place = place.nextElementSibling;
		else parent.insertBefore(node, place);
	}
	for (const [id, node] of known) {
		if (!wanted.has(id)) {
			node.remove();
			known.delete(id);
		}
	}
}

/** Replaces all children. */
export const show = (parent, ...children) => parent.replaceChildren(...shown(children));

/** What was chosen before; nothing where storage is switched off. */
export function recall(name) {
	try {
		return localStorage.getItem(name);
	} catch {
		return null;
	}
}

/** Keeps a choice for the next time, where that can be. */
export function keep(name, value) {
	try {
		localStorage.setItem(name, value);
	} catch {
		// It holds for this page.
	}
}

/** Calls `work` once after the last of many calls. */
export function debounce(work, ms) {
	let timer = 0;
	const later = (...given) => {
		clearTimeout(timer);
		timer = setTimeout(() => work(...given), ms);
	};
	later.cancel = () => clearTimeout(timer);
	return later;
}

/** Calls `work` at most once in `ms`, at once and again at the end. */
export function throttle(work, ms) {
	let timer = 0;
	let again = false;
	let last = 0;
	const run = () => {
		timer = 0;
		if (!again) return;
		again = false;
		last = performance.now();
		work();
	};
	const soon = () => {
		again = true;
		if (!timer) timer = setTimeout(run, Math.max(0, ms - (performance.now() - last)));
	};
	soon.cancel = () => {
		clearTimeout(timer);
		timer = 0;
		again = false;
	};
	return soon;
}
