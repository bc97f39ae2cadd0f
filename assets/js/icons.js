// The icons, drawn here; each is one path on a grid of 24.

import { s } from "./dom.js";

const PATHS = {
	live: "M3 12h4l3-8 4 16 3-8h4",
	logs: "M5 6h14M5 12h14M5 18h9",
	dialers:
		"M6.5 4h3l1.5 4-2 1.5a12 12 0 0 0 5.5 5.5l1.5-2 4 1.5v3a2 2 0 0 1-2.2 2A16.5 16.5 0 0 1 4.5 6.2 2 2 0 0 1 6.5 4Z",
	alerts: "M6 9a6 6 0 0 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7ZM10 20a2.2 2.2 0 0 0 4 0",
	settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.8v4.4M9 14.8v4.4",
	chart: "M4 20h16M7 16v-5M12 16V5M17 16V9",
	check: "M5 12.5l4.5 4.5L19 7.5",
	cross: "M6.5 6.5l11 11M17.5 6.5l-11 11",
	warn: "M12 8v5M12 16.6v.2M10.3 4.3 2.9 17a2 2 0 0 0 1.7 3h14.8a2 2 0 0 0 1.7-3L13.7 4.3a2 2 0 0 0-3.4 0Z",
	pause: "M9 6v12M15 6v12",
	skip: "M5 6l7 6-7 6ZM18 6v12",
	arrow: "M5 12h14M13 6l6 6-6 6",
	back: "M19 12H5M11 6l-6 6 6 6",
	search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM20 20l-4.6-4.6",
	clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 7v5.2l3.3 1.9",
	person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20.5c.8-3.8 3.8-5.5 7.5-5.5s6.7 1.7 7.5 5.5",
	fork: "M6 4v4a4 4 0 0 0 4 4h4a4 4 0 0 1 4 4v4M6 12v8",
	send: "M21 4 10.5 14.5M21 4l-6.5 17-4-6.5L4 10.5Z",
	doc: "M7 3h7l4 4v14H7ZM14 3v4h4M10 12h5M10 16h5",
	flask: "M10 3h4M10.5 3v6L5 19a1.5 1.5 0 0 0 1.4 2h11.2a1.5 1.5 0 0 0 1.4-2l-5.5-10V3M8 15h8",
	play: "M8 5.5v13l10.5-6.5Z",
	mail: "M4 6h16v12H4ZM4 7l8 6 8-6",
	download: "M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 20h14",
	theme: "M12 3a9 9 0 1 0 0 18ZM12 3a9 9 0 0 1 0 18",
	keys: "M3.5 7h17v10h-17ZM7 10.5h.1M11 10.5h.1M15 10.5h.1M8.5 13.8h7",
	out: "M14 4H6v16h8M11 12h9.5M17 8.5l3.5 3.5-3.5 3.5",
	reload: "M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 4v4.5H15",
	info: "M12 11v6M12 7.4v.2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z",
	plug: "M9 3v5M15 3v5M6.5 8h11v3a5.5 5.5 0 0 1-11 0ZM12 16.5V21",
	dot: "M12 12h.1",
};

/** An icon beside a text that says the same; hidden from assistive technology. */
export const icon = (name) =>
	s(
		"svg",
		{ class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
		s("path", { d: PATHS[name] ?? PATHS.dot }),
	);
