//! A stand-in for an `OpenID` provider: it signs what a test says of a person.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::faults::Faults;
use super::http_server::{Answer, HttpServer};
use super::requests::{Request, Requests};

/// The stand-in. Cheap to clone. Codes are what a test makes up: each is good once, and `expired` never is.
#[derive(Clone, Debug)]
pub struct IdentityProvider {
    server: HttpServer,
    key: Arc<Ed25519KeyPair>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    claims: Value,
    used: Vec<String>,
}

impl IdentityProvider {
    /// Listens on `address`; the future serves until it is dropped.
    pub fn bind(
        address: &str,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32])
            .map_err(|rejected| io::Error::other(rejected.to_string()))?;
        let provider = Self {
            server: HttpServer::bind(address)?,
            key: Arc::new(key),
            state: Arc::default(),
        };
        let service = provider.clone();
        let serve = provider
            .server
            .serve(move |request| service.answer(request));
        Ok((provider, serve))
    }

    /// The issuer.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    /// The claims of the next ID tokens, beside or in place of the usual ones.
    pub fn says(&self, claims: Value) {
        self.state().claims = claims;
    }

    fn answer(&self, request: &Request) -> Answer {
        let url = self.url();
        match (request.method.as_str(), request.path()) {
            ("GET", "/.well-known/openid-configuration") => {
                let published = json!({
                    "issuer": url,
                    "authorization_endpoint": format!("{url}/authorize"),
                    "token_endpoint": format!("{url}/token"),
                    "jwks_uri": format!("{url}/keys"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["EdDSA"],
                });
                Answer::json(200, &published)
            }
            ("GET", "/keys") => {
                let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
                let key =
                    json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": x });
                Answer::json(200, &json!({ "keys": [key] }))
            }
            ("POST", "/token") => {
                let mut state = self.state();
                let form = String::from_utf8_lossy(&request.body);
                let code = form
                    .split('&')
                    .find_map(|field| field.strip_prefix("code="));
                let code = code.unwrap_or_default().to_owned();
                if code == "expired" || state.used.contains(&code) {
                    return Answer::json(400, &json!({ "error": "invalid_grant" }));
                }
                state.used.push(code);
                let tokens = json!({
                    "access_token": "made-up",
                    "token_type": "Bearer",
                    "id_token": self.token(&state.claims),
                });
                Answer::json(200, &tokens)
            }
            _ => Answer::json(404, &json!({ "error": "not found" })),
        }
    }

    fn token(&self, claims: &Value) -> String {
        // From 2023 to 2100: who tries what is over says so.
        let mut payload = json!({ "iss": self.url(), "aud": "switchboard", "iat": 1_700_000_000, "exp": 4_102_444_800_u64 });
        if let (Some(payload), Some(claims)) = (payload.as_object_mut(), claims.as_object()) {
            payload.extend(claims.clone());
        }
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(&json!({ "alg": "EdDSA", "kid": "k" }));
        let signed = format!("{header}.{}", encode(&payload));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
