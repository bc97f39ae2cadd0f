// The pages of the dashboard, in the order of the navigation; the server serves the addresses that stand here. A page
// without a name belongs to the one above it. It is a function of `main` and the route and returns the functions that
// close it.

import { live } from "./live.js";
import { logs } from "./logs.js";
import { trace } from "./trace.js";
import { caller } from "./caller.js";
import { dialers } from "./dialers.js";
import { rules } from "./rules.js";
import { quality } from "./quality.js";
import { alerts } from "./alerts.js";
import { incident } from "./incident.js";
import { settings } from "./settings.js";

export const PAGES = [
	{ path: "/", name: "Live", icon: "live", key: "l", open: live },
	{ path: "/logs", name: "Logs", icon: "logs", key: "o", open: logs },
	{ path: "/logs/{call_id}", open: trace },
	{ path: "/callers/{id}", open: caller },
	{ path: "/dialers", name: "Dialers", icon: "dialers", key: "d", open: dialers },
	{ path: "/rules", name: "Rules", icon: "fork", key: "u", open: rules },
	{ path: "/quality", name: "Quality", icon: "chart", key: "q", open: quality },
	{ path: "/alerts", name: "Alerts", icon: "alerts", key: "a", open: alerts },
	{ path: "/alerts/{incident}", one: "Incident", open: incident },
	{ path: "/settings", name: "Settings", icon: "settings", key: "s", open: settings },
];
