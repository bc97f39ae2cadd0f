// `<sb-log>`: a table of any length of which at most 40 rows exist. Rows come by cursor, newest first; a leap far away
// asks by an estimated time, because a cursor only goes on from a known row. What is loaded stands in segments: rows
// that follow each other.

import { attr, h, show, text } from "./dom.js";

const ROW = 36;
/** Rows in the page: what fits, and a few on either side. */
const MOST = 38;
const AROUND = 3;
/** More rows than this make an element too high for browsers: beyond, the same height stands for more time. */
const LIMIT = 200_000;
const PAGE = 100;
/** Up to so many rows away the cursor is followed; further away, time is estimated. */
const NEAR = 300;
/** Rows kept in memory. */
const KEPT = 4_000;

class Log extends HTMLElement {
	#source;
	#columns;
	#segments = [];
	#count = 0;
	#oldest = null;
	#nodes = [];
	#body = h("tbody");
	#table = h("table.rows");
	#size = h("div.size", this.#table);
	#view = h(
		"div.view",
		{ tabindex: "0", role: "region", onscroll: () => this.#soon(), onkeydown: (event) => this.#key(event) },
		this.#size,
	);
	#frame = 0;
	#asking = null;
	#settle = 0;
	#watch = new ResizeObserver(() => this.#soon());

	connectedCallback() {
		this.append(this.#view);
		this.#watch.observe(this.#view);
	}
	disconnectedCallback() {
		this.#watch.disconnect();
		this.#asking?.abort();
		clearTimeout(this.#settle);
	}

	/**
	 * Loads from the newest row.
	 * `source`: `{label, load({cursor, from, to, size, signal}), at(row), key(row), oldest()}`; `load` gives
	 * `{rows, next, total, exact}`.
	 */
	async open(columns, source) {
		this.#source = source;
		if (columns !== this.#columns) {
			this.#columns = columns;
			this.#nodes = [];
			this.#body.replaceChildren();
			attr(this.#view, "aria-label", source.label);
			const widths = columns.map(({ width, class: name }) => {
				const col = h("col", { class: name });
				col.style.width = width;
				return col;
			});
			show(
				this.#table,
				h("caption.unseen", source.label),
				h("colgroup", widths),
				h(
					"thead",
					h(
						"tr",
						{ "aria-rowindex": "1" },
						columns.map((column) => h("th", { scope: "col", class: column.class }, column.label)),
					),
				),
				this.#body,
			);
		}
		this.#asking?.abort();
		const first = await this.#ask({});
		if (!first) return;
		performance.mark("log-data");
		this.#oldest = null;
		this.#segments = [{ start: 0, rows: first.rows, next: first.next, head: true }];
		this.#view.scrollTop = 0;
		this.#measure(first);
		this.#draw();
		requestAnimationFrame(() => performance.measure("log-paint", "log-data"));
	}

	get atTop() {
		return this.#view.scrollTop < ROW;
	}

	/** Puts rows that have just come before the first, and newer forms of rows in their place. */
	prepend(rows) {
		const [head] = this.#segments;
		if (!head?.head) return;
		const fresh = [];
		for (const row of rows) {
			const place = head.rows.slice(0, 2 * PAGE).findIndex((one) => this.#source.key(one) === this.#source.key(row));
			if (place < 0) fresh.push(row);
			else head.rows[place] = row;
		}
		head.rows.unshift(...fresh);
		for (const segment of this.#segments.slice(1)) segment.start += fresh.length;
		this.total += fresh.length;
		this.#recount();
		this.#draw();
	}

	/** Moves the focus to the next row or the one before. */
	move(by) {
		const inside = document.activeElement.closest("sb-log tr");
		const index = inside ? inside.index + by : Math.floor(this.#view.scrollTop / ROW);
		if (index < 0 || index >= this.#count) return;
		const [top, height] = [index * ROW, this.#view.clientHeight - 2 * ROW];
		if (top < this.#view.scrollTop) this.#view.scrollTop = top;
		else if (top > this.#view.scrollTop + height) this.#view.scrollTop = top - height;
		this.#draw();
		this.#nodes
			.find((node) => node.index === index)
			?.querySelector("a")
			?.focus({ preventScroll: true });
	}

	/** Puts the focus on the row with this address, where it is in view. */
	focusOn(href) {
		const links = this.#nodes.map((node) => node.querySelector("a"));
		links.find((link) => link?.getAttribute("href") === href)?.focus({ preventScroll: true });
	}

	#key(event) {
		const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
		if (!by || event.target.tagName !== "A") return;
		event.preventDefault();
		this.move(by);
	}

	async #ask(wanted) {
		const asking = new AbortController();
		this.#asking = asking;
		try {
			const page = await this.#source.load({ size: PAGE, signal: asking.signal, ...wanted });
			return asking.signal.aborted ? null : page;
		} catch (error) {
			if (error.name !== "AbortError") this.dispatchEvent(new CustomEvent("failed", { detail: error }));
			return null;
		} finally {
			if (this.#asking === asking) this.#asking = null;
		}
	}

	#measure(page) {
		const end = page.rows.length;
		this.total = page.next ? Math.max(page.total ?? 0, end) : end;
		this.exact = !page.next || page.exact !== false;
		this.#count = Math.min(LIMIT, page.next ? Math.max(this.total, end + PAGE) : end);
		this.#recount();
	}

	#recount() {
		const last = this.#segments.at(-1);
		const end = last.start + last.rows.length;
		this.#count = last.next ? Math.max(this.#count, end + PAGE) : end;
		this.#size.style.height = `${(this.#count + 1) * ROW}px`;
		attr(this.#table, "aria-rowcount", this.#count + 1);
	}

	#soon() {
		this.#frame ||= requestAnimationFrame(() => this.#draw());
	}

	#holds = (segment, index) => index >= segment.start && index < segment.start + segment.rows.length;

	#row(index) {
		const segment = this.#segments.find((one) => this.#holds(one, index));
		return segment?.rows[index - segment.start];
	}

	#draw() {
		this.#frame = 0;
		if (!this.isConnected || !this.#columns) return;
		const { scrollTop, clientHeight } = this.#view;
		const wanted = Math.min(MOST, this.#count, Math.ceil(clientHeight / ROW) + 2 * AROUND);
		const first = Math.max(0, Math.min(this.#count - wanted, Math.floor(scrollTop / ROW) - AROUND));
		while (this.#nodes.length > wanted) this.#nodes.pop().remove();
		while (this.#nodes.length < wanted) {
			const cells = this.#columns.map((column) => h("td", { class: column.class }, column.make()));
			const node = h("tr", cells);
			node.index = (this.#nodes.at(-1)?.index ?? first - 1) + 1;
			this.#nodes.push(node);
			this.#body.append(node);
		}
		// Rows that stay keep their nodes, and with them focus and hover.
		const shift = first - (this.#nodes[0]?.index ?? first);
		if (Math.abs(shift) < wanted) {
			for (let i = 0; i < shift; i += 1) this.#body.append(this.#nodes[this.#nodes.push(this.#nodes.shift()) - 1]);
			for (let i = 0; i > shift; i -= 1) this.#body.prepend((this.#nodes.unshift(this.#nodes.pop()), this.#nodes[0]));
		}
		this.#table.style.top = `${first * ROW}px`;
		let missing = -1;
		this.#nodes.forEach((node, i) => {
			node.index = first + i;
			attr(node, "aria-rowindex", node.index + 2);
			const row = this.#row(node.index);
			if (!row && missing < 0) missing = node.index;
			node.classList.toggle("wait", !row);
			node.row = row;
			if (row) for (const cell of node.cells) cell.firstChild.update(row);
		});
		const here = this.#segments.find((one) => this.#holds(one, first));
		const end = here ? here.start + here.rows.length : 0;
		if (missing >= 0) this.#load(missing, first + wanted, 40);
		// The next page is fetched before its rows are wanted.
		else if (here?.next && end - first - wanted < 40) this.#load(end, end + 1, 0);
		const top = Math.floor(scrollTop / ROW);
		const bottom = Math.min(this.#count, top + Math.floor(clientHeight / ROW) - 1) - 1;
		this.dispatchEvent(
			new CustomEvent("view", { detail: { first: top, top: this.#row(top), bottom: this.#row(bottom) } }),
		);
	}

	/** Loads what the view wants once it rests there. */
	#load(index, end, wait) {
		clearTimeout(this.#settle);
		this.#settle = setTimeout(async () => {
			if (this.#asking) return;
			const above = this.#segments.filter((one) => one.start <= index).at(-1);
			const below = this.#segments.find((one) => one.start > index);
			const edge = above ? above.start + above.rows.length : 0;
			if (above?.next && index - edge <= NEAR)
				await this.#extend(above, Math.max(index + 1, Math.min(end, edge + PAGE)));
			else if (below && below.start - index <= NEAR) await this.#before(below, above);
			else await this.#leap(index);
			this.#forget();
			this.#soon();
		}, wait);
	}

	/** Goes on from the last row of a segment until `end` is reached. */
	async #extend(segment, end) {
		const { at, key } = this.#source;
		while (segment.next && segment.start + segment.rows.length < end) {
			const last = segment.rows.at(-1);
			const page = await this.#ask(
				segment.next === "time" ? { to: new Date(Date.parse(at(last)) + 1).toISOString() } : { cursor: segment.next },
			);
			if (!page) return;
			const rows = page.rows.slice(page.rows.findIndex((row) => key(row) === key(last)) + 1);
			const place = this.#segments.indexOf(segment);
			const following = this.#segments[place + 1];
			const meets = following ? rows.findIndex((row) => key(row) === key(following.rows[0])) : -1;
			if (meets >= 0) {
				segment.rows.push(...rows.slice(0, meets));
				const by = segment.start + segment.rows.length - following.start;
				if (this.#view.scrollTop >= following.start * ROW) this.#view.scrollTop += by * ROW;
				segment.rows.push(...following.rows);
				segment.next = following.next;
				this.#segments.splice(place + 1, 1);
			} else {
				segment.rows.push(...rows);
				segment.next = page.next;
			}
			this.#settleAfter(place);
		}
	}

	/** Loads the rows before a segment, by a time that is tried nearer and further until the rows meet. */
	async #before(segment, above) {
		const { at, key } = this.#source;
		const edge = Date.parse(at(segment.rows[0]));
		const perRow = Math.max(1, (edge - Date.parse(at(segment.rows.at(-1)))) / segment.rows.length);
		let span = perRow * PAGE * 0.8 + 2;
		for (let tries = 0; tries < 7; tries += 1) {
			const page = await this.#ask({
				to: new Date(edge + span).toISOString(),
				from: new Date(edge).toISOString(),
				size: 2 * PAGE,
			});
			if (!page) return;
			const meets = page.rows.findIndex((row) => key(row) === key(segment.rows[0]));
			if (meets > 0) {
				segment.rows.unshift(...page.rows.slice(0, meets));
				segment.start -= meets;
				const least = above ? above.start + above.rows.length + 1 : 0;
				const by = Math.max(0, least - segment.start);
				segment.start += by;
				this.#settleAfter(this.#segments.indexOf(segment));
				this.#view.scrollTop += by * ROW;
				return;
			}
			span *= meets < 0 ? 0.3 : 4;
		}
	}

	/** Loaded rows and the end, each with its time: between them, times are estimated. */
	async #places() {
		const { at } = this.#source;
		const known = this.#segments.flatMap(({ start, rows }) => [
			[start, Date.parse(at(rows[0]))],
			[start + rows.length - 1, Date.parse(at(rows.at(-1)))],
		]);
		this.#oldest ??= Date.parse((await this.#source.oldest()) ?? "") || known[0][1] - 90 * 86_400_000;
		if (known[0][0] > 0) known.unshift([0, Math.max(Date.now(), known[0][1])]);
		return [...known, [this.#count, Math.min(this.#oldest, known.at(-1)[1])]];
	}

	async #leap(index) {
		const known = await this.#places();
		const after = known.findIndex(([place]) => place > index);
		const [[place, time], [end, oldest]] = [known[Math.max(0, after - 1)], known.at(after)];
		const start = Math.max(0, index - AROUND);
		await this.#startAt(start, start && time - ((time - oldest) * (start - place)) / Math.max(1, end - place));
	}

	/** Shows the rows from a time on downwards. */
	async jump(time) {
		if (!this.#segments[0]?.rows.length) return;
		const { at } = this.#source;
		const known = await this.#places();
		const older = known.findIndex(([, one]) => one < time);
		const [[place, from], [end, to]] = [known[Math.max(0, older - 1)], known.at(older)];
		let index = Math.round(place + ((end - place) * (from - time)) / Math.max(1, from - to));
		index = Math.max(0, Math.min(this.#count - 1, index));
		const inside = this.#segments.find(
			(one) => this.#holds(one, index) && this.#holds(one, end) && this.#holds(one, place),
		);
		if (inside)
			index =
				inside.start +
				Math.max(
					0,
					inside.rows.findIndex((row) => Date.parse(at(row)) < time),
				);
		else {
			this.#asking?.abort();
			index = await this.#startAt(index, time);
		}
		this.#view.scrollTop = index * ROW;
		this.#draw();
		performance.mark("log-jumped");
	}

	/** Begins a segment at a place with the rows from a time on; from the newest where there is none. Gives its place. */
	async #startAt(index, time) {
		const page = await this.#ask(time ? { to: new Date(time).toISOString() } : {});
		if (!page) return index;
		const above = this.#segments.filter((one) => one.start <= index).at(-1);
		const start = Math.max(index, above ? above.start + above.rows.length + 1 : 0);
		if (page.rows.length) {
			const segment = { start, rows: page.rows, next: page.next, head: !time };
			this.#segments.push(segment);
			this.#segments.sort((a, b) => a.start - b.start);
			this.#settleAfter(this.#segments.indexOf(segment));
		} else {
			// Nothing is that old: the next estimate is nearer.
			this.#oldest = (time + Date.parse(this.#source.at(this.#segments.at(-1).rows.at(-1)))) / 2;
		}
		return start;
	}

	/** Moves what follows a segment out of its way; what is shown stays in view. */
	#settleAfter(place) {
		const top = Math.floor(this.#view.scrollTop / ROW);
		const here = this.#segments.findLast((one) => this.#holds(one, top));
		const was = here?.start;
		for (let i = place + 1; i < this.#segments.length; i += 1) {
			const before = this.#segments[i - 1];
			// A row that is not loaded stays between segments that do not meet yet: whoever comes to it lets them grow together.
			this.#segments[i].start = Math.max(this.#segments[i].start, before.start + before.rows.length + 1);
		}
		this.#recount();
		if (here && here.start !== was) this.#view.scrollTop += (here.start - was) * ROW;
	}

	/** Lets rows go that are far from the view. */
	#forget() {
		const rows = this.#segments.reduce((sum, one) => sum + one.rows.length, 0);
		const at = Math.floor(this.#view.scrollTop / ROW);
		const here = this.#segments.find((one) => this.#holds(one, at));
		if (rows < KEPT || !here) return;
		const from = Math.max(0, at - here.start - KEPT / 4);
		const to = Math.min(here.rows.length, from + KEPT / 2);
		this.#segments = [
			{
				start: here.start + from,
				rows: here.rows.slice(from, to),
				next: to < here.rows.length ? "time" : here.next,
				head: here.head && from === 0,
			},
		];
	}
}

const column =
	(tag, update) =>
	(label, width, value, extra, cls = "") => ({
		label,
		width,
		class: cls,
		make() {
			const node = tag();
			node.update = (row) => update(node, row, value, extra);
			return node;
		},
	});

/** `(label, width, value, extra, class)`; `extra` is the tone of a chip, the address of a link. */
export const textColumn = column(
	() => h("span"),
	(node, row, value) => text(node, value(row)),
);
export const chipColumn = column(
	() => h("span.chip"),
	(node, row, value, tone) => {
		text(node, value(row));
		attr(node, "data-tone", tone(row) || null);
	},
);
export const linkColumn = column(
	() => h("a.row-link"),
	(node, row, value, address) => {
		text(node, value(row));
		attr(node, "href", address(row));
	},
);
export const timeColumn = column(
	() => h("sb-time"),
	(node, row, value) => attr(node, "at", value(row)),
);

customElements.define("sb-log", Log);
