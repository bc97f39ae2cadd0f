// Signing in at a real provider with a real browser: roles by claim, a refusal without one, a person who is removed, signing out.
//
//     node run.mjs <switchboard, a debug build>        beside node_modules with oidc-provider and puppeteer-core

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import Provider from "oidc-provider";
import puppeteer from "puppeteer-core";

const PATIENCE_MS = 30_000;
const binary = resolve(process.argv[2]);
const folder = mkdtempSync(join(tmpdir(), "switchboard-oidc-"));
const KEY = `swb_${randomBytes(32).toString("base64url")}`;

const freePort = () =>
	new Promise((done) => {
		const server = createServer().listen(0, "127.0.0.1", () => {
			const { port } = server.address();
			server.close(() => done(port));
		});
	});
const [providerPort, port] = [await freePort(), await freePort()];
const [issuer, site] = [`http://127.0.0.1:${providerPort}`, `http://127.0.0.1:${port}`];

const people = new Map([
	["ada", { name: "Ada Lovelace", groups: ["leads", "admins"] }],
	["bob", { name: "Bob", groups: ["floor"] }],
	["carl", { name: "Carl", groups: ["cooks"] }],
]);
const provider = new Provider(issuer, {
	clients: [{ client_id: "switchboard", client_secret: "made-up+secret", redirect_uris: [`${site}/login/callback`], grant_types: ["authorization_code", "refresh_token"] }],
	claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
	scopes: ["openid", "profile", "groups"],
	cookies: { keys: ["made-up"] },
	pkce: { required: () => true },
	issueRefreshToken: () => true,
	findAccount: (_, id) =>
		people.has(id) ? { accountId: id, claims: () => ({ sub: id, ...people.get(id) }) } : undefined,
});
const serving = provider.listen(providerPort, "127.0.0.1");

writeFileSync(
	join(folder, "config.toml"),
	`
[server]
listen = "127.0.0.1:${port}"
public_url = "${site}"
[storage]
path = "switchboard.db"
spool_mib = 4
ballast_mib = 4
[twilio]
account_sid = "AC00000000000000000000000000000001"
verify_signature = false
[braze]
base_url = "http://127.0.0.1:9"
api_key = "made-up"
[routing]
default_dialer = "line"
[[routing.tiers]]
name = "hot"
min_score = 80
[dialers.line]
kind = "http"
url = "http://127.0.0.1:9/calls"
connect = "+493012345600"
[[auth.keys]]
name = "ops"
role = "admin"
hash = "${createHash("sha256").update(KEY).digest("hex")}"
[auth.oidc]
issuer = "${issuer}"
client_id = "switchboard"
client_secret = "made-up+secret"
scopes = ["openid", "profile", "groups"]
roles = { admin = ["admins"], viewer = ["floor"] }
`,
	{ mode: 0o600 },
);
const printed = [];
const appliance = spawn(binary, ["serve", "--config", join(folder, "config.toml")], {
	env: { ...process.env, SWITCHBOARD_CONFIRM_EVERY: "1" },
	stdio: ["ignore", "pipe", "pipe"],
});
for (const output of [appliance.stdout, appliance.stderr]) output.on("data", (data) => printed.push(String(data)));

/** Waits until `look` gives something. */
async function until(what, look) {
	const end = Date.now() + PATIENCE_MS;
	for (;;) {
		const found = await look();
		if (found) return found;
		if (Date.now() > end) throw new Error(`never: ${what}`);
		await new Promise((done) => setTimeout(done, 100));
	}
}

const ask = async (path, headers = { "x-api-key": KEY }, method = "GET") => {
	const answer = await fetch(`${site}/api/v1${path}`, { headers, method });
	return { status: answer.status, body: answer.status === 204 ? null : await answer.json() };
};
const cookieOf = async (context) =>
	(await context.cookies()).filter(({ name }) => name.startsWith("switchboard")).map(({ name, value }) => `${name}=${value}`).join("; ");
const records = async () => (await ask("/logs?kind=accessed&page_size=200")).body.data.map(({ detail }) => detail);

/** Goes to a page of ours as somebody without a session, and signs in at the provider. */
async function signIn(browser, who, asked) {
	const context = await browser.createBrowserContext();
	const page = await context.newPage();
	page.setDefaultTimeout(PATIENCE_MS);
	await page.goto(site + asked);
	const goes = page.waitForNavigation();
	await page.click("a[href*='/login/provider']");
	await goes;
	await page.type("[name=login]", who);
	await page.type("[name=password]", "any");
	await Promise.all([page.waitForNavigation(), page.click("[type=submit]")]);
	// That we may know: asked once.
	await page.click("[type=submit]");
	// A page that is still being read has no title and no body yet.
	const arrived = (site) =>
		location.href.startsWith(site) && document.readyState === "complete" && document.title !== "Signed in · Switchboard";
	await page.waitForFunction(arrived, {}, site);
	return { context, page };
}
const shell = (page) => page.evaluate(() => ({ ...document.documentElement.dataset, path: location.pathname + location.search }));

let browser;
try {
	await until("it serves", () => fetch(`${site}/health`).then((answer) => answer.ok, () => false));
	browser = await puppeteer.launch({
		executablePath: "/usr/bin/chromium",
		args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
	});

	const ada = await signIn(browser, "ada", "/logs?view=records");
	const seen = await shell(ada.page);
	assert.deepEqual([seen.user, seen.role, seen.path], ["Ada Lovelace (oidc ada)", "admin", "/logs?view=records"]);
	const left = await ada.context.cookies();
	const ours = left.filter(({ name }) => name.startsWith("switchboard"));
	assert.deepEqual(ours.map(({ name, sameSite, httpOnly }) => [name, sameSite, httpOnly]), [["switchboard_session", "Strict", true]]);
	console.log("ok: an admin by claim is led to the page that was asked for");

	const carl = await signIn(browser, "carl", "/");
	const text = await carl.page.evaluate(() => document.body.innerText);
	assert.match(text, /Carl \(oidc carl\) has no role here\. Ask an administrator/);
	assert.equal((await ask("/calls", { cookie: await cookieOf(carl.context) })).status, 401);
	await until("the refusal is recorded", async () =>
		(await records()).some(({ is, keys }) => is === "refused" && keys?.includes("Carl (oidc carl)")),
	);
	console.log("ok: who has no role is told so, and that is recorded");

	const bob = await signIn(browser, "bob", "/");
	assert.equal((await shell(bob.page)).role, "viewer");
	const asBob = { cookie: await cookieOf(bob.context) };
	assert.equal((await ask("/calls", asBob)).status, 200);
	const ours2 = { ...asBob, origin: site };
	assert.equal((await ask("/keys/none", ours2, "DELETE")).status, 403);
	console.log("ok: a viewer by claim sees and changes nothing");

	// Asked again meanwhile, and still here.
	const renewed = new Promise((done) => provider.once("grant.success", done));
	await renewed;
	assert.equal((await ask("/calls", asBob)).status, 200);
	people.delete("bob");
	await until("who is removed is out", async () => (await ask("/calls", asBob)).status === 401);
	await until("that is recorded", async () =>
		(await records()).some(({ is, by }) => is === "session_ended" && by === "Bob (oidc bob)"),
	);
	people.set("ada", { name: "Ada Lovelace", groups: ["floor"] });
	const asAda = { cookie: await cookieOf(ada.context) };
	await until("another role counts", async () => (await ask("/keys/none", { ...asAda, origin: site }, "DELETE")).status === 403);
	console.log("ok: a person who is removed is out, and a role that is taken is gone");

	let ended = false;
	const streams = await new Promise((done) => http.get(`${site}/api/v1/events`, { headers: asAda }, done));
	streams.on("data", () => {});
	streams.on("close", () => (ended = true));
	// The page leaves by itself when its session ends, maybe before the answer is told.
	await ada.page.evaluate(() => fetch("/api/v1/session", { method: "DELETE" }).then(() => true)).catch(() => {});
	await until("the stream ends with the session", () => ended);
	assert.equal((await ask("/calls", asAda)).status, 401);
	const kinds = (await records()).filter(({ by }) => by === "Ada Lovelace (oidc ada)").map(({ is }) => is);
	assert.deepEqual(new Set(kinds), new Set(["logged_in", "logged_out"]));
	console.log("ok: signing out ends the session and its stream");

	// The provider goes away: keys sign in as before, people are told.
	serving.close();
	serving.closeAllConnections();
	const page = await (await browser.createBrowserContext()).newPage();
	await page.goto(`${site}/login`);
	await page.type("#key", KEY);
	await Promise.all([page.waitForNavigation(), page.click("[type=submit]")]);
	assert.equal((await shell(page)).user, "ops");
	console.log("ok: without the provider, keys sign in");
	console.log("oidc: all checks passed");
} catch (error) {
	console.log(printed.join("").split("\n").slice(-40).join("\n"));
	console.error(error);
	process.exitCode = 1;
} finally {
	browser?.process()?.kill("SIGKILL");
	serving.close();
	serving.closeAllConnections();
	appliance.kill("SIGKILL");
	rmSync(folder, { recursive: true, force: true });
	process.exit();
}
