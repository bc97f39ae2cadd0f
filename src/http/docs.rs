//! `/openapi.json` and `/docs`: the description of the API, and pages to read and try it. They hold no data, so no key is asked for.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use super::assets::StaticFile;
use super::parts::SharedParts;

/// Scripts and styles of our own only; the interface draws its icons from data.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Switchboard API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>The description of the API is at <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

/// Nothing is asked of other hosts: no validator, no remote definitions.
const START: &str = "window.ui = SwaggerUIBundle({ url: 'openapi.json', dom_id: '#swagger-ui', deepLinking: false, validatorUrl: null, \
    presets: [SwaggerUIBundle.presets.apis], layout: 'BaseLayout' });\n";

static FILES: LazyLock<Vec<(&'static str, StaticFile)>> = LazyLock::new(|| {
    let config = Arc::new(Config::from("openapi.json"));
    let shipped = [
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "favicon-32x32.png",
    ];
    let shipped = shipped.into_iter().filter_map(|name| {
        let file = utoipa_swagger_ui::serve(name, Arc::clone(&config)).ok()??;
        let bytes = Bytes::from(file.bytes.into_owned());
        Some((name, StaticFile::new(&file.content_type, bytes)))
    });
    let start = StaticFile::new(
        "text/javascript; charset=utf-8",
        Bytes::from_static(START.as_bytes()),
    );
    shipped.chain([("start.js", start)]).collect()
});

static PAGE_FILE: LazyLock<StaticFile> = LazyLock::new(|| {
    StaticFile::new(
        "text/html; charset=utf-8",
        Bytes::from_static(PAGE.as_bytes()),
    )
});

/// The routes; `document` is what `/openapi.json` answers.
pub(super) fn router(document: &serde_json::Value) -> Router<SharedParts> {
    let document = Bytes::from(document.to_string());
    let document = Arc::new(StaticFile::new("application/json", document));
    let described = move |headers: HeaderMap| std::future::ready(document.answer(&headers));
    Router::new()
        .route("/openapi.json", get(described))
        .route("/docs", get(page))
        .route("/docs/", get(|| async { StatusCode::NOT_FOUND }))
        .route("/docs/{*file}", get(file))
}

async fn page(headers: HeaderMap) -> Response {
    let mut response = PAGE_FILE.answer(&headers);
    let policy = HeaderValue::from_static(POLICY);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |(_, file)| file.answer(&headers),
    )
}
