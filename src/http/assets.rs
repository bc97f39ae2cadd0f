//! The files that every browser asks for: the dashboard's, embedded in the binary, and the descriptions of the API.
//!
//! None of them holds data, so strangers may ask for them as often as they like: each is compressed once in the life of the process, when it is
//! asked for first, and an answer shares its bytes. Every file has a validator, so that a browser asks and mostly hears 304.
//!
//! A debug build reads the dashboard's files from `assets/` at each request, so that they can be edited while it runs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

/// What a page of ours may do: load its own files and ask its own server, and make no markup from text.
pub(super) const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Embedded;

static FILES: LazyLock<HashMap<String, StaticFile>> = LazyLock::new(|| {
    let files = Embedded::iter().filter_map(|path| Some((path.to_string(), embedded(&path)?)));
    files.collect()
});

fn embedded(path: &str) -> Option<StaticFile> {
    let file = Embedded::get(path)?;
    let mime = file.metadata.mimetype();
    let charset = if mime.starts_with("text/") {
        "; charset=utf-8"
    } else {
        ""
    };
    let bytes = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Some(StaticFile::new(&format!("{mime}{charset}"), bytes))
}

/// The text of a file of the dashboard; empty where there is no such file.
pub(super) fn text(path: &str) -> String {
    let bytes = Embedded::get(path).map(|file| file.data);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// One file of the dashboard.
pub(super) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let answer = if cfg!(debug_assertions) {
        embedded(&path).map(|file| file.answer(&headers))
    } else {
        FILES.get(&path).map(|file| file.answer(&headers))
    };
    let Some(mut response) = answer else {
        return StatusCode::NOT_FOUND.into_response();
    };
    guard(response.headers_mut());
    response
}

/// A file that does not change while the process runs.
#[derive(Debug)]
pub(super) struct StaticFile {
    kind: HeaderValue,
    tag: String,
    plain: Bytes,
    /// Made once; empty where compressing gains nothing.
    gzip: OnceLock<Bytes>,
}

impl StaticFile {
    /// `kind` is its media type.
    pub(super) fn new(kind: &str, plain: Bytes) -> Self {
        Self {
            kind: HeaderValue::from_str(kind)
                .unwrap_or(HeaderValue::from_static("application/octet-stream")),
            tag: hex::encode(Sha256::digest(&plain)),
            plain,
            gzip: OnceLock::new(),
        }
    }

    /// The file as the headers of a request ask for it: compressed or not, or nothing where the browser has it already.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let gzip = takes_gzip(asked)
            .then(|| self.gzip.get_or_init(|| compressed(&self.plain)))
            .filter(|bytes| !bytes.is_empty());
        // The same file in another coding is equal in meaning, not byte for byte.
        let weak = if gzip.is_some() { "W/" } else { "" };
        let tag = format!("{weak}\"{}\"", self.tag);
        let every = [
            (header::ETAG, &*tag),
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "Accept-Encoding"),
        ];
        if knows(asked, &self.tag) {
            return (StatusCode::NOT_MODIFIED, every).into_response();
        }
        let kind = [(header::CONTENT_TYPE, self.kind.clone())];
        let coding = gzip.map(|_| [(header::CONTENT_ENCODING, "gzip")]);
        let bytes = gzip.unwrap_or(&self.plain).clone();
        (kind, coding, every, bytes).into_response()
    }
}

/// Empty where that is not shorter.
fn compressed(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    match written {
        Ok(bytes) if bytes.len() < plain.len() => bytes.into(),
        Ok(_) | Err(_) => Bytes::new(),
    }
}

/// The headers that every page and every file of ours has.
pub(super) fn guard(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
}

/// The entries of a header that is a list.
fn listed<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
}

/// Whether the browser has these bytes already, in whatever coding.
fn knows(asked: &HeaderMap, tag: &str) -> bool {
    listed(asked, &header::IF_NONE_MATCH).any(|known| {
        let quoted = known.strip_prefix("W/").unwrap_or(known);
        known == "*" || quoted.trim_matches('"') == tag
    })
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    listed(asked, &header::ACCEPT_ENCODING).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let is_wanted = weight.is_none_or(|q| q.parse().is_ok_and(|q: f32| q > 0.0));
        coding.eq_ignore_ascii_case("gzip") && is_wanted
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::body::to_bytes;
    use axum::http::HeaderName;

    use super::*;

    fn headers(given: &[(HeaderName, &str)]) -> HeaderMap {
        let given = given
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        given.collect()
    }

    async fn ask(path: &str, known: Option<&str>) -> Response {
        let known: Vec<_> = known
            .map(|tag| (header::IF_NONE_MATCH, tag))
            .into_iter()
            .collect();
        file(Path(path.to_owned()), headers(&known)).await
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

    #[tokio::test]
    async fn a_file_is_compressed_once_and_its_bytes_are_shared_by_all_answers() {
        let text = "to be or not to be, ".repeat(1_000);
        let file = StaticFile::new("text/plain", Bytes::from(text.clone()));
        let asked = headers(&[(header::ACCEPT_ENCODING, "br, GZIP;q=0.5")]);
        let mut places = Vec::new();
        for _ in 0..2 {
            let answer = file.answer(&asked);
            assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
            assert_eq!(answer.headers()[header::VARY], "Accept-Encoding");
            let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            let mut read = String::new();
            flate2::read::GzDecoder::new(&*bytes)
                .read_to_string(&mut read)
                .unwrap();
            assert_eq!(read, text);
            places.push(bytes.as_ptr());
        }
        assert_eq!(places[0], places[1], "a copy was made");
        let plain = file.answer(&HeaderMap::new());
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        let bytes = to_bytes(plain.into_body(), 1 << 20).await.unwrap();
        assert_eq!(bytes.as_ptr(), file.plain.as_ptr(), "a copy was made");
    }

    #[test]
    fn a_coding_is_used_where_it_is_wanted_and_gains_something() {
        let takes = |text| takes_gzip(&headers(&[(header::ACCEPT_ENCODING, text)]));
        assert!(takes("gzip") && takes("deflate, gzip;q=1.0"));
        assert!(!takes("gzip;q=0") && !takes("br") && !takes("identity"));
        let short = StaticFile::new("text/plain", Bytes::from_static(b"a"));
        let asked = headers(&[(header::ACCEPT_ENCODING, "gzip")]);
        let answer = short.answer(&asked);
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
    }

    #[test]
    fn who_has_a_file_in_one_coding_has_it_in_the_other() {
        let text = Bytes::from("to be or not to be, ".repeat(100));
        let file = StaticFile::new("text/plain", text);
        let gzip = (header::ACCEPT_ENCODING, "gzip");
        let first = file.answer(&headers(std::slice::from_ref(&gzip)));
        let tag = first.headers()[header::ETAG].to_str().unwrap();
        assert!(tag.starts_with("W/\""), "{tag}");
        let again = file.answer(&headers(&[gzip, (header::IF_NONE_MATCH, tag)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let plain = file.answer(&headers(&[(header::IF_NONE_MATCH, tag)]));
        assert_eq!(plain.status(), StatusCode::NOT_MODIFIED);
    }
}
