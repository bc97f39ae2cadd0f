//! The way to the provider and back: pages without scripts.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::api::record_log_in;
use super::pages::{LoginQuery, PageContext, local, rendered, see};
use super::parts::SharedParts;
use super::people::{BroughtBack, CALLBACK};

/// Goes on by itself: only a page of ours may send the cookie of the session, and the one before was the provider's.
#[derive(Template)]
#[template(path = "signed_in.html")]
struct SignedInPage<'a> {
    base: &'a str,
    next: &'a str,
}

pub(super) fn router() -> Router<SharedParts> {
    Router::new()
        .route("/login/provider", get(go))
        .route(CALLBACK, get(come_back))
}

async fn go(context: PageContext, asked: Result<Query<LoginQuery>, QueryRejection>) -> Response {
    let LoginQuery { next, .. } = asked.map(|Query(asked)| asked).unwrap_or_default();
    let next = local(next.as_deref());
    match context.people.begin(next, context.source()).await {
        Ok((address, cookie)) => ([(header::SET_COOKIE, cookie)], see(&address)).into_response(),
        Err(error) => context.failed(next, &error),
    }
}

async fn come_back(
    context: PageContext,
    headers: HeaderMap,
    brought: Result<Query<BroughtBack>, QueryRejection>,
) -> Response {
    let brought = brought.map(|Query(brought)| brought).unwrap_or_default();
    let (people, source) = (&context.people, context.source());
    let entered = match people.finish(&headers, brought, source).await {
        Ok((begun, next)) => record_log_in(&context.reads, begun, source)
            .await
            .map(|cookie| (cookie, next)),
        Err(error) => Err(error),
    };
    let mut response = match entered {
        Ok((cookie, next)) => {
            let site = context.sessions.site();
            let page = SignedInPage {
                base: &site.base,
                next: local(Some(&next)),
            };
            (
                [(header::SET_COOKIE, cookie)],
                rendered(StatusCode::OK, &page),
            )
                .into_response()
        }
        Err(error) => context.failed("/", &error),
    };
    let used_up = people.cookie("", None);
    response.headers_mut().append(header::SET_COOKIE, used_up);
    response
}
