//! The webhook: the message as JSON, signed so that its receiver knows whom it comes from and when it was sent.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder};
use sha2::Sha256;

use super::message::{NotTaken, RenderedMessage, chain};
use crate::outbound::{Again, Connections, retry_after};
use crate::secret::Secret;

/// How long an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Answers that say that this message will never be taken.
const REFUSED_FOR_GOOD: [u16; 4] = [400, 410, 413, 422];

/// `[alerts.webhook]`: where a signed JSON message goes.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    pub url: String,
    /// What the message is signed with.
    pub secret: Secret,
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSettings(…)")
    }
}

/// Sends messages as JSON. The path of its URL may be a secret, and is not shown.
#[derive(Clone)]
pub struct WebhookSender {
    settings: WebhookSettings,
    connections: Connections,
}

impl fmt::Debug for WebhookSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSender(…)")
    }
}

impl WebhookSender {
    pub fn new(settings: WebhookSettings, connections: Connections) -> Self {
        Self {
            settings,
            connections,
        }
    }

    pub async fn send(&self, message: &RenderedMessage, now: Timestamp) -> Result<(), NotTaken> {
        let body = message.json.to_string();
        let signature = sign(self.settings.secret.expose().as_bytes(), now, &body);
        let request = |client: &Client| {
            client
                .post(&self.settings.url)
                .header("content-type", "application/json")
                .header("x-switchboard-notice", &message.id)
                .header("idempotency-key", &message.id)
                .header("x-switchboard-signature", &signature)
                .body(body.clone())
        };
        let is_final = |status| REFUSED_FOR_GOOD.contains(&status);
        submit(&self.connections, request, now, is_final).await
    }
}

/// Sends one request, and reads off the status what became of it; `is_final` says which statuses refuse it for good.
pub(super) async fn submit(
    connections: &Connections,
    request: impl Fn(&Client) -> RequestBuilder,
    now: Timestamp,
    is_final: impl Fn(u16) -> bool,
) -> Result<(), NotTaken> {
    let timed = |client: &Client| request(client).timeout(ATTEMPT);
    let response = match connections.send(timed, Again::Always).await {
        Ok(response) => response,
        Err(error) => {
            connections.failed();
            return Err(NotTaken::for_now(chain(&error.without_url())));
        }
    };
    let status = response.status();
    connections.answered(status.as_u16());
    if status.is_success() {
        return Ok(());
    }
    Err(NotTaken {
        message: format!("the receiver answered {status}"),
        for_good: is_final(status.as_u16()),
        answered: true,
        retry_after: retry_after(response.headers(), now),
    })
}

fn sign(secret: &[u8], now: Timestamp, body: &str) -> String {
    let seconds = now.as_second();
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    format!(
        "t={seconds},v1={}",
        hex::encode(mac.finalize().into_bytes())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_time_and_body() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let signed = sign(b"secret", at, "{}");
        // printf '1790000000.{}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signed,
            "t=1790000000,v1=d0cadd434460d4af55e7ab90d79c1802591d7001a77c9e06471d0e3ec8cc85ae"
        );
        assert_ne!(sign(b"secret", at, "{ }"), signed);
        assert_ne!(sign(b"other", at, "{}"), signed);
    }
}
