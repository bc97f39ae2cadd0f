// The charts: SVG built node by node, each with a title and a table that says the same.

import { attr, h, keyed, s, show, text } from "./dom.js";
import { count, minuteOf, ms, percent, dayOf } from "./format.js";

const LEFT = 34;
const RIGHT = 8;
const TOP = 10;

function niceTop(value) {
	if (value <= 4) return 4;
	const power = 10 ** Math.floor(Math.log10(value));
	return [2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

/**
 * Calls per minute as columns (failed ones at their foot) and the share that did not fail as a line, on one time axis.
 * `draw(series, span)`: points `{at, calls, failed, p95_ms}`, all of them `span` ms apart.
 */
export class Trend {
	#svg = s("svg", { role: "img", preserveAspectRatio: "none" });
	#title = s("title", "Calls per minute");
	#columns = s("g");
	#lines = s("g");
	#axes = s("g");
	#cross = s("g");
	#tip = h("div.tip", { hidden: true });
	#twin = h("tbody");
	#twinBox;
	#points = [];
	#span = 60_000;
	#box = [0, 0];
	#at = -1;
	#watch;

	constructor() {
		this.#svg.append(this.#title, this.#axes, this.#columns, this.#lines, this.#cross);
		this.#twinBox = h(
			"details.twin",
			{ ontoggle: () => this.#fillTwin() },
			h("summary", "Show as table"),
			h(
				"div.scroll-x",
				{ tabindex: "0", role: "region", "aria-label": "Trend as table" },
				h(
					"table",
					h(
						"thead",
						h(
							"tr",
							["Time", "Calls", "Failed", "Did not fail", "p95"].map((name, i) =>
								h("th", { scope: "col", class: i ? "num" : "" }, name),
							),
						),
					),
					this.#twin,
				),
			),
		);
		const plot = h("div.chart", this.#svg, this.#tip);
		plot.addEventListener("pointermove", (event) => this.#point(event.clientX - plot.getBoundingClientRect().left));
		plot.addEventListener("pointerleave", () => this.#point(-1));
		this.node = h("div", plot, this.#twinBox);
		this.#watch = new ResizeObserver(([entry]) => {
			const width = Math.round(entry.contentRect.width);
			if (width && width !== this.#box[0]) {
				this.#box = [width, width < 520 ? 190 : 236];
				this.#paint();
			}
		});
		this.#watch.observe(plot);
	}

	close() {
		this.#watch.disconnect();
	}

	draw(points, span) {
		this.#points = points;
		this.#span = span;
		this.#paint();
		this.#fillTwin();
	}

	#x(i) {
		return LEFT + (i * (this.#box[0] - LEFT - RIGHT)) / Math.max(1, this.#points.length);
	}

	#paint() {
		const [width, height] = this.#box;
		if (!width || !this.#points.length) return;
		attr(this.#svg, "viewBox", `0 0 ${width} ${height}`);
		attr(this.#svg, "height", height);
		const perMinute = 60_000 / this.#span;
		const points = this.#points;
		const base = Math.round(height * 0.66);
		const [rateTop, rateBase] = [base + 26, height - 20];
		const top = niceTop(Math.max(...points.map((point) => point.calls * perMinute)));
		const y = (value) => base - (value / top) * (base - TOP);
		const step = this.#x(1) - this.#x(0);
		const gap = step > 5 ? Math.min(3, step * 0.25) : 0.5;

		const axes = [];
		for (const share of [0, 0.5, 1]) {
			axes.push({ id: `v${share}`, at: y(top * share), label: count(Math.round(top * share * 10) / 10) });
		}
		axes.push({ id: "r1", at: rateTop, label: "100 %" }, { id: "r0", at: rateBase, label: "" });
		keyed(
			this.#axes,
			[...axes, ...this.#times(height)],
			(axis) => axis.id,
			(axis) => (axis.time ? this.#tick() : this.#rule(width)),
		);

		const wide = Math.max(0.75, step - gap);
		const bars = points.map(({ at, calls, failed }, i) => ({
			at,
			x: this.#x(i) + gap / 2,
			wide,
			base,
			all: y(calls * perMinute),
			bad: y(failed * perMinute),
		}));
		keyed(
			this.#columns,
			bars,
			(bar) => bar.at,
			() => {
				const [all, bad] = [s("rect", { class: "b-ok", rx: 1.5 }), s("rect", { class: "b-bad", rx: 1.5 })];
				const group = s("g", all, bad);
				group.update = (now) => {
					for (const [bar, at] of [
						[all, now.all],
						[bad, now.bad],
					]) {
						attr(bar, "x", now.x.toFixed(2));
						attr(bar, "width", now.wide.toFixed(2));
						attr(bar, "y", at.toFixed(2));
						attr(bar, "height", Math.max(0, now.base - at).toFixed(2));
					}
				};
				return group;
			},
		);

		const rates = points.map((point) => (point.calls ? 1 - point.failed / point.calls : null));
		const low =
			Math.min(0.9, ...rates.filter((rate) => rate !== null)) >= 0.9
				? 0.9
				: Math.min(...rates.filter((rate) => rate !== null)) >= 0.5
					? 0.5
					: 0;
		const rateY = (rate) => rateBase - ((rate - low) / (1 - low)) * (rateBase - rateTop);
		let path = "";
		let drawing = false;
		rates.forEach((rate, i) => {
			// Where there were no calls, there is a gap; a point by itself is a dot.
			const at = `${(this.#x(i) + step / 2).toFixed(1)} ${rateY(rate ?? 0).toFixed(1)}`;
			if (rate !== null) path += drawing ? `L${at}` : `M${at}h.1`;
			drawing = rate !== null;
		});
		if (!this.#lines.firstChild) this.#lines.append(s("path", { class: "rate" }), s("text", { x: 0, class: "low" }));
		attr(this.#lines.firstChild, "d", path || "M0 0");
		attr(this.#lines.lastChild, "y", rateBase + 4);
		text(this.#lines.lastChild, `${Math.round(low * 100)} %`);

		const total = points.reduce((sum, point) => sum + point.calls, 0);
		const bad = points.reduce((sum, point) => sum + point.failed, 0);
		const highest = Math.max(...points.map((point) => point.calls * perMinute));
		text(
			this.#title,
			`Calls per minute and share that did not fail: ${count(total)} calls, ${count(bad)} failed, ` +
				`highest ${count(Math.round(highest))} a minute`,
		);
		this.#point(this.#at);
	}

	#rule(width) {
		const [line, label] = [s("line", { class: "axis", x1: LEFT }), s("text", { x: 0 })];
		const group = s("g", line, label);
		group.update = (axis) => {
			attr(line, "x2", this.#box[0] || width);
			attr(line, "y1", axis.at);
			attr(line, "y2", axis.at);
			attr(label, "y", axis.at + 4);
			text(label, axis.label);
		};
		return group;
	}

	#tick() {
		const label = s("text", { "text-anchor": "middle" });
		label.update = (time) => {
			attr(label, "x", time.x.toFixed(1));
			attr(label, "y", time.at);
			text(label, time.label);
		};
		return label;
	}

	#times(height) {
		const n = this.#points.length;
		const wanted = Math.max(2, Math.floor(this.#box[0] / 130));
		const every = Math.max(1, Math.ceil(n / wanted));
		const long = n * this.#span > 36 * 3_600_000;
		const times = [];
		for (let i = Math.floor(every / 2); i < n; i += every) {
			const { at } = this.#points[i];
			times.push({ id: `t${i}`, time: true, x: this.#x(i), at: height - 3, label: long ? dayOf(at) : minuteOf(at) });
		}
		return times;
	}

	#point(x) {
		this.#at = x;
		const n = this.#points.length;
		const i = Math.floor(((x - LEFT) / (this.#box[0] - LEFT - RIGHT)) * n);
		const point = x >= 0 ? this.#points[i] : undefined;
		this.#tip.hidden = !point;
		if (!point) {
			this.#cross.replaceChildren();
			return;
		}
		const at = this.#x(i) + (this.#x(1) - this.#x(0)) / 2;
		show(this.#cross, s("line", { class: "cross", x1: at, x2: at, y1: TOP, y2: this.#box[1] - 18 }));
		const rate = point.calls ? percent(1 - point.failed / point.calls) : "–";
		show(
			this.#tip,
			h("b", `${this.#span >= 3_600_000 ? `${dayOf(point.at)}, ` : ""}${minuteOf(point.at)}`),
			h("div", `${count(point.calls)} calls, ${count(point.failed)} failed`),
			h("div", `${rate} did not fail`),
			h("div", `p95 ${ms(point.p95_ms ?? NaN)}`),
		);
		const room = this.#box[0];
		this.#tip.style.left = `${at > room / 2 ? at - this.#tip.offsetWidth - 10 : at + 10}px`;
	}

	#fillTwin() {
		if (!this.#twinBox.open) {
			this.#twin.replaceChildren();
			return;
		}
		const rows = this.#points.filter((point) => point.calls > 0).reverse();
		show(
			this.#twin,
			rows.map((point) =>
				h(
					"tr",
					h("th", { scope: "row" }, h("sb-time", { at: point.at })),
					h("td.num", count(point.calls)),
					h("td.num", count(point.failed)),
					h("td.num", percent(1 - point.failed / point.calls)),
					h("td.num", ms(point.p95_ms ?? NaN)),
				),
			),
		);
	}
}

/** A distribution: a table with bars beside its figures. Rows `{name, words, value, failed, color, tone}`. */
export class Bars {
	#body = h("tbody");
	#none = h("p.small.muted");
	#table;
	constructor(caption, nothing, columns = ["", "Share", "Calls"]) {
		this.#table = h(
			"table.bars",
			h("caption.unseen", caption),
			h(
				"colgroup",
				["wide", null, "figure", "figure"].map((name) => h("col", { class: name })),
			),
			h(
				"thead.unseen",
				h(
					"tr",
					columns.map((name) => h("th", { scope: "col" }, name || "Name")),
				),
			),
			this.#body,
		);
		text(this.#none, nothing);
		this.node = h("div.flushed", this.#table, this.#none);
	}
	draw(rows) {
		const total = rows.reduce((sum, row) => sum + row.value, 0);
		this.#none.hidden = total > 0;
		this.#table.hidden = total === 0;
		const shares = rows.map((row) => ({ ...row, share: row.value / total, bad: (row.failed ?? 0) / total }));
		keyed(
			this.#body,
			total ? shares : [],
			(row) => row.name,
			(row) => {
				const [name, bar, over, share, value] = [
					h(row.href ? "a.cut" : "span.cut"),
					h("div", { class: row.tone === "bad" ? "fill bad" : "fill", data: row.color ? { c: row.color } : {} }),
					h("div.over"),
					h("span"),
					h("span"),
				];
				const node = h(
					"tr",
					h("th", { scope: "row" }, h("span.row", row.color && h("span.swatch", { data: { c: row.color } }), name)),
					h("td.barcell", h("div.bar", { "aria-hidden": "true" }, bar, row.tone === "bad" ? null : over)),
					h("td.num", value),
					h("td.num.muted", share),
				);
				node.update = (now) => {
					text(name, now.words ?? now.name);
					if (now.href) attr(name, "href", now.href);
					text(value, count(now.value));
					text(share, percent(now.share, 0));
					bar.style.transform = `scaleX(${now.share})`;
					over.style.transform = `scaleX(${now.bad})`;
				};
				return node;
			},
		);
	}
}

/** Percentiles on the scale of the budget. Rows `{name, words, p50_ms, p95_ms, p99_ms}`. */
export class Latencies {
	#body = h("tbody");
	constructor(caption) {
		this.node = h(
			"table.lat.bars",
			h("caption.unseen", caption),
			h(
				"thead",
				h(
					"tr",
					h("th", { scope: "col" }, "Stage"),
					h("th", { scope: "col" }, h("span.row", h("span", "0"), h("span.grow"), (this.scale = h("span", "2 s")))),
					["p50", "p95", "p99"].map((name) =>
						h("th", { scope: "col", class: name === "p99" ? "num" : "num hide-s" }, name),
					),
				),
			),
			this.#body,
		);
	}
	draw(rows, budget) {
		text(this.scale, `${budget / 1000} s budget`);
		keyed(
			this.#body,
			rows,
			(row) => row.name,
			() => {
				const bars = ["q99", "q95", "q50"].map((name) => h("i", { class: name }));
				const [name, track] = [h("th", { scope: "row" }), h("div.track", { "aria-hidden": "true" }, bars)];
				const cells = ["p50_ms", "p95_ms", "p99_ms"].map((key) => [
					key,
					h("td", { class: key === "p99_ms" ? "num nowrap" : "num nowrap hide-s" }),
				]);
				const node = h(
					"tr",
					name,
					h("td.barcell", track),
					cells.map(([, cell]) => cell),
				);
				node.update = (now) => {
					text(name, now.words);
					["p99_ms", "p95_ms", "p50_ms"].forEach((key, i) => {
						bars[i].style.transform = `scaleX(${Math.min(1, (now[key] ?? 0) / budget)})`;
					});
					track.dataset.over = String((now.p99_ms ?? 0) > budget);
					for (const [key, cell] of cells) text(cell, ms(now[key] ?? NaN));
				};
				return node;
			},
		);
	}
}
