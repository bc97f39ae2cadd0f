//! The dashboard's pages: one shell for all of them, which its scripts fill, and the page to sign in, which needs no scripts.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;

use super::api::{Reads, address, log_in};
use super::assets;
use super::demo_door::DemoDoor;
use super::error::ApiError;
use super::keys::Holder;
use super::limit::{ConcurrencyLimit, limited};
use super::parts::SharedParts;
use super::people::People;
use super::refusals::RefusedRequest;
use super::sessions::Sessions;
use crate::audit::Kind;
use crate::call::Disposition;
use crate::twilio::{self, Form, SourceAddress};

/// The addresses of the pages, from the list that their scripts have.
static PAGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = assets::text("js/pages.js");
    let paths = list.split("{ path: \"").skip(1);
    paths
        .filter_map(|path| Some(path.split_once('"')?.0.to_owned()))
        .collect()
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
#[template(path = "shell.html")]
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
#[template(path = "signed_out.html")]
struct SignedOutPage<'a> {
    base: &'a str,
    title: &'a str,
    form: Option<SignInForm<'a>>,
}

struct SignInForm<'a> {
    next: &'a str,
    wrong: &'a str,
    demo: bool,
    /// Where people sign in besides; empty where with keys only.
    provider: &'a str,
}

/// What the address of the page to sign in says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LoginQuery {
    pub(super) next: Option<String>,
    once: Option<String>,
}

/// What the pages are made of.
pub(super) struct PageContext {
    pub(super) sessions: Sessions,
    pub(super) people: People,
    pub(super) reads: Reads,
    demo: Option<DemoDoor>,
    source: Option<Extension<SourceAddress>>,
}

impl FromRequestParts<SharedParts> for PageContext {
    type Rejection = Infallible;

    async fn from_request_parts(
        request: &mut Parts,
        parts: &SharedParts,
    ) -> Result<Self, Infallible> {
        Ok(Self {
            sessions: parts.sessions.clone(),
            people: parts.people.clone(),
            reads: parts.reads.clone(),
            demo: parts.demo.clone(),
            source: request.extensions.get().copied().map(Extension),
        })
    }
}

async fn page(context: PageContext, headers: HeaderMap, uri: Uri) -> Response {
    match context.sessions.holder(&headers) {
        Some(holder) => context.shell(StatusCode::OK, &holder),
        None => see(&context.sessions.site().path(&to_login(&uri))),
    }
}

/// Whatever is no address of ours: a page that says so, to people.
pub(super) async fn nowhere(context: PageContext, method: Method, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT);
    let is_person =
        accepted.is_some_and(|types| types.as_bytes().windows(4).any(|of| of == b"html"));
    if !is_person || !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Some(holder) = context.sessions.holder(&headers) {
        return context.shell(StatusCode::NOT_FOUND, &holder);
    }
    let page = SignedOutPage {
        base: &context.sessions.site().base,
        title: "Not found",
        form: None,
    };
    rendered(StatusCode::NOT_FOUND, &page)
}

/// The form; with the demo's link, a session at once.
async fn login(
    context: PageContext,
    asked: Result<Query<LoginQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let LoginQuery { next, once } = asked.map(|Query(asked)| asked).unwrap_or_default();
    let next = local(next.as_deref());
    let (Some(once), Some(door)) = (once, &context.demo) else {
        return context.form(StatusCode::OK, next, "");
    };
    let Some(key) = door.link.exchange(&once) else {
        let wrong = "This link was used before; sign in with the key that the demo printed.";
        return context.form(StatusCode::OK, next, wrong);
    };
    context.begin(&key, next).await
}

async fn sign_in(context: PageContext, headers: HeaderMap, body: Body) -> Response {
    let body = twilio::collect(body, FORM_LIMIT, FORM_TIMEOUT).await;
    let form = body.map(|body| Form::parse(&body)).unwrap_or_default();
    let Some(key) = form.text("key") else {
        let wrong = "The form could not be read; try again.";
        return context.form(StatusCode::BAD_REQUEST, "/", wrong);
    };
    let next = form.text("next");
    let next = local(next.as_deref());
    if context.sessions.site().is_own(&headers) == Some(false) {
        let wrong = "This form was sent from another site; sign in here.";
        let refused = RefusedRequest::because("other_site");
        return refused.mark(context.form(StatusCode::FORBIDDEN, next, wrong));
    }
    context.begin(key.trim(), next).await
}

impl PageContext {
    fn shell(&self, status: StatusCode, holder: &Holder) -> Response {
        let page = Shell {
            base: &self.sessions.site().base,
            user: &holder.name,
            role: holder.role.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            kinds: &names(Kind::ALL, Kind::as_str),
            ends: &names(Disposition::ALL, Disposition::as_str),
            demo: self.demo.is_some(),
        };
        rendered(status, &page)
    }

    /// Begins a session and leads to the page asked for, or says what is wrong.
    async fn begin(&self, key: &str, next: &str) -> Response {
        match log_in(&self.sessions, &self.reads, key, self.source()).await {
            Ok(cookie) => {
                let page = see(&self.sessions.site().path(next));
                ([(header::SET_COOKIE, cookie)], page).into_response()
            }
            Err(error) => self.failed(next, &error),
        }
    }

    /// The form, with what is wrong.
    pub(super) fn failed(&self, next: &str, error: &ApiError) -> Response {
        let (status, wrong) = error.status_and_message();
        let response = self.form(status, next, wrong);
        match error.refusal() {
            Some(refused) => refused.clone().mark(response),
            None => response,
        }
    }

    pub(super) fn source(&self) -> IpAddr {
        address(self.source)
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
                demo: self.demo.is_some(),
                provider: &self.people.provider_name().unwrap_or_default(),
            }),
        };
        rendered(status, &page)
    }
}

/// A page of ours that was asked for; `/` for everything else, so that nobody is led elsewhere.
pub(super) fn local(next: Option<&str>) -> &str {
    let Some(next) = next.filter(|next| next.len() <= LONGEST_NEXT) else {
        return "/";
    };
    let is_plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let path = next.split(['?', '#']).next().unwrap_or_default();
    let pages = PAGES.iter().map(String::as_str).filter(|page| *page != "/");
    let is_ours = pages.chain(["/docs"]).any(|lead| {
        let lead = lead.split("/{").next().unwrap_or(lead);
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

pub(super) fn see(address: &str) -> Response {
    let address = HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("/"));
    of_this_moment((StatusCode::SEE_OTHER, [(header::LOCATION, address)]))
}

/// A page made by the server.
pub(super) fn rendered(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => of_this_moment((status, Html(text))),
        Err(error) => {
            tracing::error!(event = "page.failed", error = %error, "a page could not be made");
            of_this_moment(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// It depends on who is signed in, so nobody keeps it.
fn of_this_moment(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
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
            "/callers/17",
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
                provider: "login.example.com",
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
