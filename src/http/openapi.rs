//! The description of the API, generated from its handlers.

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

/// What every route of the API may answer besides what is its own.
const FAILURES: [(&str, &str); 8] = [
    (
        "400",
        "The request has to change; `details` names each wrong field.",
    ),
    ("401", "No key and no session, or none that is known."),
    (
        "403",
        "The key may not do this, or a session was used from another site.",
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
            Send a key as `X-API-Key`, or the cookie of a session.",
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
    let error =
        json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths = std::mem::take(paths)
            .into_iter()
            .map(|(path, item)| (format!("/api/v1{path}"), item))
            .collect();
    }
    let operations = document["paths"].as_object_mut().into_iter().flatten();
    let operations = operations.flat_map(|(_, item)| item.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
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
