//! The dashboard's pages: one shell for all of them, which its scripts fill.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::assets;
use super::router::SharedParts;

/// The pages that the shell's scripts know.
const PAGES: [&str; 6] = [
    "/",
    "/logs",
    "/logs/{call_id}",
    "/dialers",
    "/alerts",
    "/settings",
];

/// Pages and their files.
pub(super) fn router() -> Router<SharedParts> {
    let pages = PAGES
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, get(page)));
    pages.route("/assets/{*path}", get(assets::file))
}

/// The frame of every page. Everything else is made by scripts from what the API says.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en" data-user="{{ user }}" data-role="{{ role }}" data-version="{{ version }}"{% if demo %} data-demo="true"{% endif %}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Switchboard</title>
<link rel="icon" href="/assets/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/app.css">
<script src="/assets/js/theme.js"></script>
<script type="module" src="/assets/js/app.js"></script>
</head>
<body>
<noscript><p>The dashboard is made by scripts, and this browser runs none. The same figures are at <a href="/docs">the API</a>.</p></noscript>
</body>
</html>
"#
)]
struct Shell<'a> {
    user: &'a str,
    role: &'a str,
    version: &'a str,
    demo: bool,
}

/// Whether this is the demo, which has a bar of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsDemo(pub(super) bool);

async fn page(State(IsDemo(demo)): State<IsDemo>) -> Response {
    rendered(
        StatusCode::OK,
        &Shell {
            user: "ops",
            role: "admin",
            version: env!("CARGO_PKG_VERSION"),
            demo,
        },
    )
}

/// A page made by the server; it names who is signed in, so nobody keeps it.
fn rendered(status: StatusCode, page: &impl Template) -> Response {
    let mut response = match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(event = "page.failed", error = %error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    assets::guard(headers);
    response
}
