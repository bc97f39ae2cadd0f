//! Twilio's endpoints. Infallible by type: whatever is asked, the answer is TwiML.

use axum::extract::{FromRef, FromRequest, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::StatusCode};
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use super::listener::RequestId;
use super::overload::{Overload, WebhookInFlight};
use crate::audit::{Adoption, Event, Record};
use crate::call::{CallId, InboundCall, PassportUse};
use crate::flow::{Calls, Inbound};
use crate::lifecycle::Lifecycle;
use crate::phone::Caller;
use crate::twilio::{
    DialEnded, Edge, FallbackCall, Flaw, HeldCall, SignedWebhook, StatusReport, WebhookRefusal,
};
use crate::twiml::answer;

/// A TwiML document as Twilio wants it.
pub(super) struct Twiml(pub(super) String);

impl IntoResponse for Twiml {
    fn into_response(self) -> Response {
        let content_type = HeaderValue::from_static("application/xml; charset=utf-8");
        let no_store = HeaderValue::from_static("no-store");
        let headers = [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, no_store),
        ];
        (StatusCode::OK, headers, self.0).into_response()
    }
}

/// Where status callbacks go. Nobody listens to the answer.
const STATUS: &str = "/webhooks/twilio/status";

/// What the endpoints need, also when a webhook cannot be used.
#[derive(Clone, Debug)]
pub(super) struct Safety {
    pub(super) edge: Edge,
    pub(super) calls: Calls,
    pub(super) lifecycle: Lifecycle,
    pub(super) overload: Overload,
}

impl Safety {
    /// The answer when nothing is known; no I/O in the way.
    pub(super) fn answer(&self, call: &FallbackCall) -> Twiml {
        self.answer_to(call.caller.as_ref(), call.called.as_deref())
    }

    /// The answer when not even the webhook is at hand.
    pub(super) fn blind_answer(&self) -> Twiml {
        self.answer_to(None, None)
    }

    fn answer_to(&self, caller: Option<&Caller>, called: Option<&str>) -> Twiml {
        let policy = self.calls.policies.current();
        Twiml(policy.safe_answer(caller, called).to_xml())
    }

    /// Does the work of a webhook to its end, even where Twilio has hung up meanwhile: a handoff that was begun is finished and recorded.
    async fn to_the_end(
        &self,
        webhook: &SignedWebhook,
        in_hand: WebhookInFlight,
        work: impl Future<Output = String> + Send + 'static,
    ) -> Twiml {
        let (done, answer) = oneshot::channel();
        let work = async move {
            let body = work.await;
            drop(in_hand);
            // Whoever asked may be gone.
            drop(done.send(body));
        };
        // Boxed, so that starting the task moves a pointer and not the whole state of a call.
        let work = Box::pin(work.instrument(Span::current()));
        self.lifecycle.spawn_transient("webhook", work);
        match answer.await {
            Ok(body) => Twiml(body),
            // It panicked, or the process is being aborted.
            Err(_) => self.answer(&FallbackCall::read(webhook)),
        }
    }

    async fn dial_ended(
        &self,
        webhook: &SignedWebhook,
        ended: DialEnded,
        request_id: RequestId,
    ) -> Twiml {
        name_call(&ended.call.call_id);
        let (in_hand, calls) = (self.overload.carry(), self.calls.clone());
        let work = async move { calls.dial_ended(ended, &request_id.0).await };
        self.to_the_end(webhook, in_hand, work).await
    }

    async fn held(&self, webhook: &SignedWebhook, held: HeldCall, request_id: RequestId) -> Twiml {
        name_call(&held.call.call_id);
        let (in_hand, calls) = (self.overload.carry(), self.calls.clone());
        let work = async move { calls.held(held, &request_id.0).await };
        self.to_the_end(webhook, in_hand, work).await
    }

    /// Goes on with a step that Twilio could not bring to where it belongs, and whose passport it names here; `None` where it does not.
    async fn go_on(&self, webhook: &SignedWebhook, request_id: &RequestId) -> Option<Twiml> {
        let policy = self.calls.policies.current();
        let step = webhook.not_brought(&policy.urls)?;
        let accepted = |to: &PassportUse<'_>, text: Option<&str>| {
            text.filter(|text| self.calls.accepts(to, text)).map(|_| ())
        };
        let adoption = Adoption::Fallback;
        if let Some(ended) = DialEnded::of_url(&step) {
            accepted(&ended.passport_use(), ended.passport.as_deref())?;
            let ended = DialEnded { adoption, ..ended };
            return Some(self.dial_ended(&step, ended, request_id.clone()).await);
        }
        let held = HeldCall::of_url(&step)?;
        accepted(&held.passport_use(), held.passport.as_deref())?;
        let held = HeldCall { adoption, ..held };
        Some(self.held(&step, held, request_id.clone()).await)
    }

    fn unusable(&self, webhook: &SignedWebhook, flaw: Flaw) -> Twiml {
        self.malformed(&webhook.path, flaw, &FallbackCall::read(webhook))
    }

    /// A signed webhook that cannot be used gets the safe answer, and is counted. Nothing is decided, written or failed: whoever holds a
    /// signature can make many of these.
    fn malformed(&self, path: &str, flaw: Flaw, call: &FallbackCall) -> Twiml {
        self.edge.count_malformed(path, flaw);
        self.calls.incidents.malformed(flaw.as_str());
        if path == STATUS {
            Twiml(answer::nothing().to_xml())
        } else {
            self.answer(call)
        }
    }
}

/// A webhook that is signed and fits together; any other is answered before its endpoint sees it.
pub(super) struct Genuine(SignedWebhook);

impl<S> FromRequest<S> for Genuine
where
    Safety: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let safety = Safety::from_ref(state);
        match SignedWebhook::admit(request, &safety.edge).await {
            Ok(webhook) => Ok(Self(webhook)),
            Err(WebhookRefusal::Rejected(reason)) => Err(reason.into_response()),
            Err(WebhookRefusal::Malformed(webhook)) => {
                let call = FallbackCall::read_malformed(&webhook);
                Err(safety
                    .malformed(&webhook.path, webhook.flaw, &call)
                    .into_response())
            }
        }
    }
}

/// A call arrives; one more than the machine can take gets the safe answer at once. Where Twilio asks here because another machine did not
/// answer, the call goes on with the step that it names.
pub(super) async fn inbound(
    State(inbound): State<Inbound>,
    State(safety): State<Safety>,
    Extension(request_id): Extension<RequestId>,
    Genuine(webhook): Genuine,
) -> Twiml {
    if let Some(answer) = safety.go_on(&webhook, &request_id).await {
        return answer;
    }
    if webhook.is_after_unusable_answer() {
        // What could not be used is not said again.
        return fell_back(&safety, &webhook);
    }
    let Some(in_hand) = safety.overload.admit() else {
        let call = FallbackCall::read(&webhook);
        safety
            .calls
            .incidents
            .undecided(call.call_id.as_ref(), "overload");
        return safety.answer(&call);
    };
    let call = InboundCall::of_webhook(&webhook);
    name_call(&call.call_id);
    let work = async move { inbound.answer(call, &request_id.0).await };
    safety.to_the_end(&webhook, in_hand, work).await
}

pub(super) async fn dial(
    State(safety): State<Safety>,
    Extension(request_id): Extension<RequestId>,
    Genuine(webhook): Genuine,
) -> Twiml {
    match DialEnded::read(&webhook) {
        Ok(ended) => safety.dial_ended(&webhook, ended, request_id).await,
        Err(flaw) => safety.unusable(&webhook, flaw),
    }
}

/// A caller who waits asks again.
pub(super) async fn hold(
    State(safety): State<Safety>,
    Extension(request_id): Extension<RequestId>,
    Genuine(webhook): Genuine,
) -> Twiml {
    match HeldCall::read(&webhook) {
        Ok(held) => safety.held(&webhook, held, request_id).await,
        Err(flaw) => safety.unusable(&webhook, flaw),
    }
}

/// A leg made progress, or the number's call is over. Twilio wants an empty document, whatever we make of it.
pub(super) async fn status(State(safety): State<Safety>, Genuine(webhook): Genuine) -> Twiml {
    let _in_hand = safety.overload.carry();
    let status = match StatusReport::read(&webhook) {
        Ok(status) => status,
        Err(flaw) => return safety.unusable(&webhook, flaw),
    };
    name_call(&status.call_id);
    safety.calls.leg_reported(status).await;
    Twiml(answer::nothing().to_xml())
}

/// Twilio could not use our answer. Static: no store, no Braze, no dialer. Where it could not even fetch it, and says which step of a call that
/// was, with a passport, the call goes on with that step.
pub(super) async fn fallback(
    State(safety): State<Safety>,
    Extension(request_id): Extension<RequestId>,
    Genuine(webhook): Genuine,
) -> Twiml {
    match safety.go_on(&webhook, &request_id).await {
        Some(answer) => answer,
        None => fell_back(&safety, &webhook),
    }
}

fn fell_back(safety: &Safety, webhook: &SignedWebhook) -> Twiml {
    let call = FallbackCall::read(webhook);
    metrics::counter!("switchboard_fallback_requests_total").increment(1);
    let code = call.error_code.as_deref().unwrap_or("without a code");
    safety
        .calls
        .incidents
        .fell_back(call.call_id.as_ref(), code);
    tracing::error!(
        event = "call.on_fallback",
        call_sid = call.call_id.as_ref().map_or("", CallId::as_str),
        error_code = call.error_code.as_deref().unwrap_or_default(),
        "Twilio calls the fallback URL: it could not use our answer"
    );
    safety.answer(&call)
}

/// A path that does not exist, asked for by who signs: most likely a slip of the pen in Twilio's console. A caller who waits for an answer
/// gets the safe one; it is a call for which nothing was decided.
pub(super) async fn unknown_path(State(safety): State<Safety>, Genuine(webhook): Genuine) -> Twiml {
    name_call(&webhook.call_id);
    let caller = FallbackCall::read(&webhook);
    if !webhook.is_waited_for() {
        return safety.unusable(&webhook, Flaw::UnknownPath);
    }
    let reason = Flaw::UnknownPath.as_str();
    metrics::counter!("switchboard_webhooks_unusable_total", "reason" => reason).increment(1);
    tracing::error!(
        event = "webhook.unusable",
        path = webhook.path,
        reason,
        "Twilio asks at a path where nothing is served: the caller gets the safe answer"
    );
    safety
        .calls
        .incidents
        .undecided(Some(&webhook.call_id), reason);
    let event = Event::WebhookUnusable {
        path: webhook.path,
        reason: reason.to_owned(),
    };
    let record = Record::of_service(safety.calls.clock.now(), event);
    safety.calls.recorder.append_one(record).await;
    safety.answer(&caller)
}

/// Every log line of this request names the call.
fn name_call(call_id: &CallId) {
    Span::current().record("call_sid", call_id.as_str());
}
