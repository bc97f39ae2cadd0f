//! The dashboard's files, embedded in the binary: every one with a validator, so that a browser asks and mostly hears 304.
//!
//! A debug build reads them from `assets/` at each request, so that they can be edited while it runs.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

/// What a page of ours may do: load its own files and ask its own server, and make no markup from text.
pub(super) const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// One file of the dashboard.
pub(super) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    match Files::get(&path) {
        Some(file) => served(file, &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn served(file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let mut response = if knows(asked, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mime = file.metadata.mimetype();
        let kind = match HeaderValue::from_str(&with_charset(mime)) {
            Ok(kind) => kind,
            Err(_) => HeaderValue::from_static("application/octet-stream"),
        };
        ([(header::CONTENT_TYPE, kind)], file.data).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    guard(headers);
    response
}

/// The headers that every page and every file of ours has.
pub(super) fn guard(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
}

/// Whether the browser has these bytes already. A tag that was weakened on the way (by compression) is the same tag.
fn knows(asked: &HeaderMap, tag: &str) -> bool {
    let given = asked.get_all(header::IF_NONE_MATCH).iter();
    given
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn with_charset(mime: &str) -> String {
    if mime.starts_with("text/") {
        format!("{mime}; charset=utf-8")
    } else {
        mime.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(path: &str, known: Option<&str>) -> Response {
        let headers = known.map(|tag| (header::IF_NONE_MATCH, tag.parse().unwrap()));
        file(Path(path.to_owned()), headers.into_iter().collect()).await
    }

    #[tokio::test]
    async fn a_file_comes_once_and_is_then_known() {
        let first = ask("js/app.js", None).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(
            first.headers()[header::CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let again = ask("js/app.js", Some(&known)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(
                again.headers()[header::CONTENT_SECURITY_POLICY],
                CONTENT_SECURITY_POLICY
            );
        }
        assert_eq!(
            ask("js/app.js", Some("\"other\"")).await.status(),
            StatusCode::OK
        );
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_served() {
        for path in ["", "missing.js", "../Cargo.toml", "/etc/passwd", "js"] {
            let answer = ask(path, None).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path:?}");
        }
    }
}
