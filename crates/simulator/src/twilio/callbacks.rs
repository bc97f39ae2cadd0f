//! Status callbacks, and what can go wrong with them: sent twice, never, late, or beside what follows.

use tokio::task::JoinSet;

use super::call::{CallResult, WebhookExchange};
use super::fields::Fields;
use super::webhook::{Reply, Webhook};
use super::{Settings, Twilio, token, twiml};
use crate::chance::Chance;
use crate::form::Spaces;

/// Probabilities, drawn from the stand-in's seed for each status callback.
///
/// With all of them 0 a callback is sent in order and answered before the call goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disorder {
    pub duplicate: f64,
    pub lose: f64,
    /// It is sent after the one that follows it, or when the call is over.
    pub reorder: f64,
    /// It is sent while the call goes on, as the real Twilio does.
    pub concurrent: f64,
}

/// The callbacks of one call.
pub(super) struct Callbacks {
    twilio: Twilio,
    settings: Settings,
    held: Vec<Webhook>,
    beside: JoinSet<Reply>,
}

impl Callbacks {
    pub(super) fn new(twilio: Twilio, settings: Settings) -> Self {
        Self {
            twilio,
            settings,
            held: Vec::new(),
            beside: JoinSet::new(),
        }
    }

    /// Sends a callback, or does with it what disorder wills.
    pub(super) async fn send(
        &mut self,
        url: String,
        fields: Fields,
        chance: &mut Chance,
        result: &mut CallResult,
    ) {
        let disorder = self.settings.disorder;
        // Drawn in any case, so that one setting does not change what another draws.
        let lost = chance.happens(disorder.lose);
        let twice = chance.happens(disorder.duplicate);
        let late = chance.happens(disorder.reorder);
        let beside = chance.happens(disorder.concurrent);
        let webhook = Webhook {
            url,
            fields,
            spaces: Spaces::Percent,
            token: token(chance),
        };
        if lost {
            return;
        }
        if late {
            self.held.push(webhook);
            return;
        }
        if twice {
            self.send_now(&webhook, result).await;
        }
        if beside {
            let (twilio, settings) = (self.twilio.clone(), self.settings.clone());
            self.beside
                .spawn(async move { twilio.send(&settings, &webhook).await });
        } else {
            self.send_now(&webhook, result).await;
        }
        self.send_held(result).await;
    }

    /// Sends what was held back and waits for what is still on its way.
    pub(super) async fn finish(&mut self, result: &mut CallResult) {
        self.send_held(result).await;
        while let Some(Ok(reply)) = self.beside.join_next().await {
            record(reply, result);
        }
    }

    async fn send_held(&mut self, result: &mut CallResult) {
        for webhook in std::mem::take(&mut self.held) {
            self.send_now(&webhook, result).await;
        }
    }

    async fn send_now(&self, webhook: &Webhook, result: &mut CallResult) {
        let reply = self.twilio.send(&self.settings, webhook).await;
        record(reply, result);
    }
}

/// A callback wants a 2xx with an empty `<Response/>`, or nothing at all.
fn record(reply: Reply, result: &mut CallResult) {
    let Reply {
        mut exchange,
        answer,
    } = reply;
    match answer {
        Err(refused) => violation(&exchange, refused.code, &refused.message, result),
        Ok(answered) if answered.body.is_empty() => {}
        Ok(answered) => match twiml::read(answered.content_type.as_deref(), &answered.body) {
            Ok(document) if document.verbs.is_empty() => {}
            Ok(_) => violation(&exchange, 11200, "verbs for a status callback", result),
            Err(refused) => {
                violation(&exchange, refused.code, &refused.message, result);
                exchange.error = Some(format!("{}: {}", refused.code, refused.message));
            }
        },
    }
    result.steps.push(exchange);
}

fn violation(exchange: &WebhookExchange, code: u32, message: &str, result: &mut CallResult) {
    result
        .violations
        .push(format!("{code}: {}: {message}", exchange.path));
}
