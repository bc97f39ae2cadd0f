//! The dashboard's pages: one shell for all of them, which its scripts fill, and the page to sign in, which needs no scripts.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;

use super::api::{Reads, log_in};
use super::assets;
use super::demo_door::OptionalDemo;
use super::keys::Holder;
use super::limit::{ConcurrencyLimit, limited};
use super::parts::SharedParts;
use super::refusals::RefusedRequest;
use super::sessions::Sessions;
use super::site::Site;
use crate::audit::Kind;
use crate::call::Disposition;
use crate::twilio::{self, Form, SourceAddress};

/// The addresses of the pages, from the list that their scripts have.
static PAGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = assets::text("js/pages.js");
    let address = |line: &str| {
        Some(
            line.split_once("{ path: \"")?
                .1
                .split_once('"')?
                .0
                .to_owned(),
        )
    };
    list.lines().filter_map(address).collect()
});
/// Answers to strangers that are made at the same time.
const STRANGERS: usize = 8;
/// The largest form to sign in; a key has 47 characters.
const FORM_LIMIT: usize = 4 * 1_024;
/// A form is read within this time, or not at all.
const FORM_TIMEOUT: Duration = Duration::from_secs(2);
/// A longer address is forgotten.
const LONGEST_NEXT: usize = 1_024;

/// What strangers may ask for: pages, their files, and `docs`, the descriptions of the API. None of it costs more than bytes that are there,
/// and so many at a time are answered.
pub(super) fn router(docs: Router<SharedParts>) -> Router<SharedParts> {
    let limit = ConcurrencyLimit::new(STRANGERS);
    PAGES
        .iter()
        .fold(docs, |router, path| router.route(path, get(page)))
        .route("/login", get(login))
        .route("/assets/{*path}", get(assets::file))
        .route_layer(middleware::from_fn_with_state(limit, limited))
        // What is sent here is read before anything is asked, and is in nobody's way meanwhile.
        .route("/login", post(sign_in))
}

/// The frame of every page. Everything else is made by scripts from what the API says.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en" data-user="{{ user }}" data-role="{{ role }}" data-version="{{ version }}" data-kinds="{{ kinds }}" data-ends="{{ ends }}"{% if demo %} data-demo="true"{% endif %}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Switchboard</title>
<link rel="icon" href="{{ base }}/assets/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{{ base }}/assets/app.css">
<script src="{{ base }}/assets/js/theme.js"></script>
<script type="module" src="{{ base }}/assets/js/app.js"></script>
</head>
<body>
<noscript><p>The dashboard is made by scripts, and this browser runs none. The same figures are in <a href="{{ base }}/docs">the API</a>.</p></noscript>
</body>
</html>
"#
)]
struct Shell<'a> {
    base: &'a str,
    user: &'a str,
    role: &'a str,
    version: &'a str,
    /// The kinds of records, a space between them.
    kinds: &'a str,
    /// The ways in which calls end, a space between them.
    ends: &'a str,
    demo: bool,
}

/// What is shown without a session: the form to sign in, or that an address leads nowhere.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }} · Switchboard</title>
<link rel="icon" href="{{ base }}/assets/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{{ base }}/assets/app.css">
<script src="{{ base }}/assets/js/theme.js"></script>
</head>
<body>
<main class="sign">
{% if let Some(form) = form %}<form class="sign-card" method="post" action="{{ base }}/login">
{% else %}<div class="sign-card">
{% endif %}<p class="brand"><img src="{{ base }}/assets/favicon.svg" alt="" width="26" height="26">Switchboard</p>
{% if let Some(form) = form %}<h1>Sign in</h1>
{% if !form.wrong.is_empty() %}<p class="note" data-tone="bad" role="alert" id="wrong">{{ form.wrong }}</p>{% endif %}
<input type="hidden" name="next" value="{{ form.next }}">
<div class="field">
<label for="key">API key</label>
<input class="input" id="key" name="key" type="password" required maxlength="256" autocomplete="current-password" autofocus
 aria-describedby="hint{% if !form.wrong.is_empty() %} wrong{% endif %}"{% if !form.wrong.is_empty() %} aria-invalid="true"{% endif %}>
<span class="hint" id="hint">{% if form.demo %}The demo printed one when it started.{% else %}An administrator makes one: switchboard key new{% endif %}</span>
</div>
<button class="btn primary" type="submit">Sign in</button>
</form>
{% else %}<h1>There is no such page</h1>
<p><a href="{{ base }}/">Go to the live view</a></p>
</div>
{% endif %}</main>
</body>
</html>
"#
)]
struct SignedOutPage<'a> {
    base: &'a str,
    title: &'a str,
    form: Option<SignInForm<'a>>,
}

struct SignInForm<'a> {
    next: &'a str,
    wrong: &'a str,
    demo: bool,
}

/// What the address of the page to sign in says.
#[derive(Debug, Default, Deserialize)]
struct LoginQuery {
    next: Option<String>,
    once: Option<String>,
}

#[derive(Debug)]
struct LoginForm {
    key: String,
    next: Option<String>,
}

impl LoginForm {
    /// `None` where it is no form of ours.
    fn read(body: &[u8]) -> Option<Self> {
        let form = Form::parse(body);
        let text = |name: &str| form.text(name).map(std::borrow::Cow::into_owned);
        Some(Self {
            key: text("key")?,
            next: text("next"),
        })
    }
}

async fn page(
    State(sessions): State<Sessions>,
    State(OptionalDemo(demo)): State<OptionalDemo>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let site = sessions.site();
    let Some(holder) = sessions.holder(&headers) else {
        return see(&site.path(&to_login(&uri)));
    };
    shell(StatusCode::OK, &site, &holder, demo.is_some())
}

/// Whatever is no address of ours: a page that says so, to people.
pub(super) async fn nowhere(
    State(sessions): State<Sessions>,
    State(OptionalDemo(demo)): State<OptionalDemo>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let accepted = headers.get(header::ACCEPT);
    let is_person =
        accepted.is_some_and(|types| types.as_bytes().windows(4).any(|of| of == b"html"));
    if !is_person || !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let site = sessions.site();
    match sessions.holder(&headers) {
        Some(holder) => shell(StatusCode::NOT_FOUND, &site, &holder, demo.is_some()),
        None => rendered(
            StatusCode::NOT_FOUND,
            &SignedOutPage {
                base: &site.base,
                title: "Not found",
                form: None,
            },
        ),
    }
}

fn shell(status: StatusCode, site: &Site, Holder { name, role }: &Holder, demo: bool) -> Response {
    rendered(
        status,
        &Shell {
            base: &site.base,
            user: name,
            role: role.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            kinds: &names(Kind::ALL, Kind::as_str),
            ends: &names(Disposition::ALL, Disposition::as_str),
            demo,
        },
    )
}

/// The form; with the demo's link, a session at once.
async fn login(
    State(sessions): State<Sessions>,
    State(reads): State<Reads>,
    State(OptionalDemo(demo)): State<OptionalDemo>,
    source: Option<Extension<SourceAddress>>,
    asked: Result<Query<LoginQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let LoginQuery { next, once } = asked.map(|Query(asked)| asked).unwrap_or_default();
    let dialog = SignIn {
        sessions,
        reads,
        is_demo: demo.is_some(),
    };
    let next = local(next.as_deref());
    if let (Some(once), Some(door)) = (once, &demo) {
        let Some(key) = door.link.exchange(&once) else {
            let wrong = "This link was used before; sign in with the key that the demo printed.";
            return dialog.form(StatusCode::OK, next, wrong);
        };
        return dialog.begin(&key, source, next).await;
    }
    dialog.form(StatusCode::OK, next, "")
}

async fn sign_in(
    State(sessions): State<Sessions>,
    State(reads): State<Reads>,
    State(OptionalDemo(demo)): State<OptionalDemo>,
    source: Option<Extension<SourceAddress>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let dialog = SignIn {
        sessions,
        reads,
        is_demo: demo.is_some(),
    };
    let form = match twilio::collect(body, FORM_LIMIT, FORM_TIMEOUT).await {
        Ok(body) => LoginForm::read(&body),
        Err(_) => None,
    };
    let Some(form) = form else {
        let wrong = "The form could not be read; try again.";
        return dialog.form(StatusCode::BAD_REQUEST, "/", wrong);
    };
    let next = local(form.next.as_deref());
    if dialog.sessions.site().is_own(&headers) == Some(false) {
        let wrong = "This form was sent from another site; sign in here.";
        let refused = RefusedRequest::because("other_site");
        return refused.mark(dialog.form(StatusCode::FORBIDDEN, next, wrong));
    }
    dialog.begin(form.key.trim(), source, next).await
}

struct SignIn {
    sessions: Sessions,
    reads: Reads,
    is_demo: bool,
}

impl SignIn {
    /// Begins a session and leads to the page asked for, or says what is wrong.
    async fn begin(
        &self,
        key: &str,
        source: Option<Extension<SourceAddress>>,
        next: &str,
    ) -> Response {
        match log_in(&self.sessions, &self.reads, key, source).await {
            Ok(cookie) => {
                let mut response = see(&self.sessions.site().path(next));
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                response
            }
            Err(error) => {
                let (status, wrong) = error.status_and_message();
                let response = self.form(status, next, wrong);
                match error.refusal() {
                    Some(refused) => refused.clone().mark(response),
                    None => response,
                }
            }
        }
    }

    fn form(&self, status: StatusCode, next: &str, wrong: &str) -> Response {
        let page = SignedOutPage {
            base: &self.sessions.site().base,
            title: if wrong.is_empty() {
                "Sign in"
            } else {
                "Not signed in"
            },
            form: Some(SignInForm {
                next,
                wrong,
                demo: self.is_demo,
            }),
        };
        rendered(status, &page)
    }
}

/// A page of ours that was asked for; `/` for everything else, so that nobody is led elsewhere.
fn local(next: Option<&str>) -> &str {
    let Some(next) = next.filter(|next| next.len() <= LONGEST_NEXT) else {
        return "/";
    };
    let is_plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let path = next.split(['?', '#']).next().unwrap_or_default();
    let pages = PAGES.iter().map(String::as_str).filter(|page| *page != "/");
    let is_ours = pages.chain(["/docs"]).any(|lead| {
        path.strip_prefix(lead)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let is_home = path == "/" && !next.starts_with("//");
    if is_plain && (is_home || is_ours) {
        next
    } else {
        "/"
    }
}

/// The page to sign in, which remembers the page asked for.
fn to_login(uri: &Uri) -> String {
    let asked = uri.path_and_query().map_or("/", |path| path.as_str());
    if asked == "/" {
        return "/login".to_owned();
    }
    let mut address = "/login?next=".to_owned();
    for byte in asked.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(address, "%{byte:02X}").unwrap_or_default();
        }
    }
    address
}

fn see(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    let address = HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("/"));
    headers.insert(header::LOCATION, address);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    assets::guard(headers);
    response
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

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_ours_are_led_to() {
        for ours in [
            "/",
            "/?window=7d",
            "/logs?view=records&q=%2B49",
            "/logs/CA0123",
            "/settings#rules",
        ] {
            assert_eq!(local(Some(ours)), ours);
        }
        for foreign in [
            "",
            "//example.com",
            "/\\example.com",
            "https://example.com/logs",
            "javascript:alert(1)",
            "/logsx",
            "/login",
            "/logs\r\nSet-Cookie: a=b",
            "/logs/\\..",
            "logs",
        ] {
            assert_eq!(local(Some(foreign)), "/", "{foreign:?}");
        }
        assert_eq!(local(None), "/");
        assert_eq!(local(Some(&format!("/logs?q={}", "a".repeat(2_000)))), "/");
    }

    #[test]
    fn every_page_of_the_list_is_served() {
        let names = assets::text("js/pages.js").matches("open: ").count();
        assert_eq!((PAGES.len(), PAGES[0].as_str()), (names, "/"), "{PAGES:?}");
        assert!(PAGES.contains(&"/logs/{call_id}".to_owned()), "{PAGES:?}");
    }

    #[test]
    fn the_page_asked_for_is_remembered() {
        let login = |asked: &str| to_login(&asked.parse().unwrap());
        assert_eq!(login("/"), "/login");
        assert_eq!(login("/dialers?x=1"), "/login?next=%2Fdialers%3Fx%3D1");
    }

    #[test]
    fn what_is_wrong_is_shown_as_text() {
        let page = SignedOutPage {
            base: "",
            title: "Not signed in",
            form: Some(SignInForm {
                next: "/logs?a=\"><script>",
                wrong: "<b>no</b>",
                demo: false,
            }),
        };
        let text = page.render().unwrap();
        assert!(
            !text.contains("<b>no") && !text.contains("\"><script>"),
            "{text}"
        );
        assert!(text.contains("aria-invalid=\"true\""));
    }
}
