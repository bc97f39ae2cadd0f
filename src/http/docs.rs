//! `/openapi.json` and `/docs`: the description of the API, and pages to read and try it. They hold no data, so no key is asked for.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use super::router::SharedParts;

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

/// The routes; `document` is what `/openapi.json` answers.
pub(super) fn router(document: &serde_json::Value) -> Router<SharedParts> {
    let document = Bytes::from(document.to_string());
    let described = move || {
        let document = document.clone();
        async move { typed("application/json", document) }
    };
    let files = Router::new()
        .route("/docs/{*file}", get(file))
        .with_state(Arc::new(Config::from("openapi.json")));
    Router::new()
        .route("/openapi.json", get(described))
        .route("/docs", get(|| async { page() }))
        .route("/docs/", get(|| async { StatusCode::NOT_FOUND }))
        .merge(files)
}

fn page() -> Response {
    let mut response = typed(
        "text/html; charset=utf-8",
        Bytes::from_static(PAGE.as_bytes()),
    );
    let policy = HeaderValue::from_static(POLICY);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn file(State(config): State<Arc<Config<'static>>>, Path(name): Path<String>) -> Response {
    if name == "start.js" {
        let script = Bytes::from_static(START.as_bytes());
        return typed("text/javascript; charset=utf-8", script);
    }
    match utoipa_swagger_ui::serve(&name, config) {
        Ok(Some(found)) => {
            let kind = HeaderValue::from_str(&found.content_type);
            let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
            let bytes = Bytes::from(found.bytes.into_owned());
            ([(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        Ok(None) | Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn typed(kind: &'static str, bytes: Bytes) -> Response {
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response()
}
