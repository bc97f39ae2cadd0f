//! The stand-in for what cannot be left out: read the body, make the same upstream request, write TwiML.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::routing::post;

const TWIML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Dial answerOnBridge=\"true\" timeout=\"20\" action=\"https://calls.example.com/webhooks/twilio/dial?dialer=dialfire&amp;step=1\"><Number>+4930555000</Number></Dial></Response>";

/// What is sent upstream; as long as what the product sends.
const NOTE: &str = r#"{"$ref":"sb-00112233445566778899aabb","$phone":"+4915100000000","lead_score":"90","tier":"hot","router_call_sid":"CA00000000000000000000000000000000","request_id":"00112233445566778899aabbccddeeff","source":"switchboard"}"#;

#[derive(Clone)]
struct Upstream {
    client: reqwest::Client,
    url: String,
}

pub(crate) fn run(upstream: &str) {
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let client = reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(256)
                .build()
                .unwrap();
            let url = format!(
                "http://{upstream}/api/campaigns/AB12CD34EF56GH78/tasks/inbound_hot/contacts/create"
            );
            let app = Router::new()
                .route("/webhooks/twilio", post(answer))
                .with_state(Upstream { client, url });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            println!("listening on {}", listener.local_addr().unwrap());
            axum::serve(listener, app).await.unwrap();
        });
}

async fn answer(
    State(upstream): State<Upstream>,
    body: Bytes,
) -> ([(header::HeaderName, &'static str); 1], &'static str) {
    assert!(!body.is_empty());
    let request = upstream
        .client
        .post(&upstream.url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(NOTE);
    let answer = request.send().await.unwrap().bytes().await.unwrap();
    assert!(!answer.is_empty());
    (
        [(header::CONTENT_TYPE, "application/xml; charset=utf-8")],
        TWIML,
    )
}
