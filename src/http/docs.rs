//! `/openapi.json` and `/docs`: the description of the API, generated from its handlers, and pages to read and try it. They hold no data, so no
//! key is asked for.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::assets::StaticFile;
use super::parts::SharedParts;
use crate::alerts::IncidentKind;

/// Scripts and styles of our own only; the interface draws its icons from data.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("../../templates/docs.html");

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
    let start = StaticFile::new("text/javascript; charset=utf-8", START.into());
    shipped.chain([("start.js", start)]).collect()
});

static PAGE_FILE: LazyLock<StaticFile> =
    LazyLock::new(|| StaticFile::new("text/html; charset=utf-8", PAGE.into()));

/// The routes; `document` is what `/openapi.json` answers.
pub(super) fn router(document: &Value) -> Router<SharedParts> {
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
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY)];
    (policy, PAGE_FILE.answer(&headers)).into_response()
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |(_, file)| file.answer(&headers),
    )
}

/// What every route of the API may answer besides what is its own.
const FAILURES: [(&str, &str); 8] = [
    (
        "400",
        "The request has to change; `details` names each wrong field.",
    ),
    ("401", "No key and no session, or none that is known."),
    (
        "403",
        "The role of the key may not do this, or a session was used from another site.",
    ),
    ("404", "There is no such thing."),
    (
        "405",
        "Not with this method; the header `Allow` says which.",
    ),
    ("413", "The body is too large."),
    ("500", "A defect of ours."),
    ("503", "Not now; `Retry-After` says when."),
];

/// The whole document, from what the handlers say of themselves; `root` is the path that all of ours begin with.
#[expect(
    clippy::indexing_slicing,
    reason = "utoipa writes objects in these places, and a test reads the result"
)]
pub(super) fn complete(routes: OpenApi, root: &str) -> Value {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    document["info"] = json!({
        "title": "Switchboard",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The operator's API. Numbers of people are masked unless `reveal=true`, which is written down. Times are ISO 8601 in UTC. \
            Send a key as `X-API-Key`, or the cookie of a session. A key has a role: `viewer` sees, `operator` also takes dialers out, puts them back, \
            tries refused credentials again, acknowledges incidents, mutes alerts and changes entries of lists, `admin` does everything.",
        "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
    });
    document["servers"] = json!([{ "url": root }]);
    document["components"]["securitySchemes"] = json!({
        "api_key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key from `switchboard key new`." },
        "session": { "type": "apiKey", "in": "cookie", "name": "switchboard_session", "description": "From `POST /api/v1/session`. Where the public address is https, the cookie is `__Host-switchboard_session`. Requests that change something must come from our own pages." },
    });
    document["security"] = json!([{ "api_key": [] }, { "session": [] }]);
    // What depends on two fields cannot be said at either.
    document["components"]["schemas"]["ExplainRequest"]["not"] = json!({
        "required": ["score", "lookup"],
        "properties": { "score": { "type": "number" }, "lookup": { "const": true } },
    });
    let kinds = IncidentKind::ALL.iter().filter(|kind| kind.may_be_muted());
    let kinds: Vec<&str> = kinds.map(|kind| kind.as_str()).collect();
    document["components"]["schemas"]["NewMute"]["properties"]["kind"]["enum"] = json!(kinds);
    document["components"]["schemas"]["NewMute"]["oneOf"] =
        json!([{ "required": ["for"] }, { "required": ["until"] }]);
    document["components"]["schemas"]["TakeOut"]["not"] = json!({ "required": ["for", "until"] });
    document["paths"]["/dialers/{name}/drain"]["post"]["requestBody"]["required"] = json!(false);
    let error =
        json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths = std::mem::take(paths)
            .into_iter()
            .map(|(path, item)| (format!("/api/v1{path}"), item))
            .collect();
    }
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        let items = item.as_object_mut().into_iter().flatten();
        items.map(move |(_, operation)| (path, operation))
    });
    for (path, operation) in operations {
        // What it is about: `/api/v1/calls/active` about calls.
        operation["tags"] = json!(path.split('/').skip(3).take(1).collect::<Vec<_>>());
        let Some(responses) = operation["responses"].as_object_mut() else {
            continue;
        };
        for (status, description) in FAILURES {
            responses
                .entry(status)
                .or_insert_with(|| json!({ "description": description, "content": error.clone() }));
        }
        for (_, response) in responses {
            response["headers"]["X-Request-ID"] = json!({
                "description": "Names the request, also in the log.",
                "schema": { "type": "string" },
            });
        }
    }
    document
}
