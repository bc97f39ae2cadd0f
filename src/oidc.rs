//! People who sign in at an OpenID provider: the code flow with PKCE, what the provider says of them, and asking it again.
//!
//! The provider is asked when somebody signs in and while they stay, and by nobody else. What it publishes of itself is kept, and fetched anew
//! when it is old or a token names a key that is not in it.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use openidconnect::core::{self, CoreErrorResponseType, CoreIdToken, CoreProviderMetadata};
use openidconnect::http::{Method, Request, StatusCode};
use openidconnect::{
    self as openid, ClaimsVerificationError, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, OAuth2TokenResponse as _, RequestTokenError,
    SignatureVerificationError, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::audit::Role;
use crate::clock::Clock;
use crate::outbound::{Again, Connections, Content};
use crate::secret::Secret;

/// What one request to the provider may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LARGEST: usize = 256 * 1024;
/// What the provider publishes is fetched again after so long …
const KEPT: Duration = Duration::from_hours(1);
/// … and for a key that is not in it, or after a failure, no sooner than this.
const PAUSE: Duration = Duration::from_secs(10);

/// `[auth.oidc]`: where people sign in, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// The provider's address, as it writes it itself.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret,
    /// What is asked for. Default: `openid profile email`.
    pub scopes: Vec<String>,
    /// The claim that holds what a person is called. Default: `name`.
    pub name_claim: String,
    /// The claim that holds a person's roles or groups: its name, or the way to it with points between. Default: `groups`.
    pub role_claim: String,
    pub roles: OidcRoles,
    /// Authorities to trust in place of those of the system. Default: none.
    pub ca: Option<PathBuf>,
}

/// The values of the claim that give each role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcRoles {
    pub admin: Vec<String>,
    pub operator: Vec<String>,
    pub viewer: Vec<String>,
}

/// Why a person is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OidcError {
    /// Nothing is known of the person: the provider did not answer, or not as it should.
    #[error("the provider does not answer: {0}")]
    Unavailable(String),
    /// The provider does not vouch for the person.
    #[error("the provider refuses: {0}")]
    Refused(String),
}

/// What has to be remembered until the person comes back from the provider.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInAttempt {
    pub state: String,
    nonce: String,
    verifier: String,
}

/// A person, as the provider last said.
#[derive(Clone, Debug)]
pub struct OidcIdentity {
    pub subject: String,
    /// What they are called; empty where the provider does not say.
    pub name: String,
    /// `None`: none of the values that give one is among theirs.
    pub role: Option<Role>,
    access: Secret,
    refresh: Option<Secret>,
}

/// The provider. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OidcProvider(Arc<ProviderState>);

#[derive(Debug)]
struct ProviderState {
    settings: OidcSettings,
    connections: Connections,
    clock: Clock,
    /// What came of asking last, and when.
    published: Mutex<Option<(Published, Instant)>>,
}

type Published = Result<Arc<CoreProviderMetadata>, OidcError>;
type Client<No = EndpointNotSet, Maybe = EndpointMaybeSet> =
    core::CoreClient<EndpointSet, No, No, No, Maybe, Maybe>;

impl OidcProvider {
    pub fn new(settings: OidcSettings, connections: Connections, clock: Clock) -> Self {
        Self(Arc::new(ProviderState {
            settings,
            connections,
            clock,
            published: Mutex::default(),
        }))
    }

    pub fn settings(&self) -> &OidcSettings {
        &self.0.settings
    }

    /// Where to send somebody who signs in and comes back to `callback`, and what to remember meanwhile.
    pub async fn begin(&self, callback: &str) -> Result<(String, SignInAttempt), OidcError> {
        let client = self.client(false).await?;
        let (challenge, verifier) = openid::PkceCodeChallenge::new_random_sha256();
        let flow = core::CoreAuthenticationFlow::AuthorizationCode;
        let scopes = self.0.settings.scopes.iter();
        let scopes = scopes.filter(|scope| *scope != "openid").cloned();
        let (url, state, nonce) = client
            .set_redirect_uri(address(callback)?)
            .authorize_url(
                flow,
                openid::CsrfToken::new_random,
                openid::Nonce::new_random,
            )
            .add_scopes(scopes.map(openid::Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        let attempt = SignInAttempt {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        };
        Ok((url.into(), attempt))
    }

    /// Who came back with `code`.
    pub async fn finish(
        &self,
        callback: &str,
        code: String,
        attempt: SignInAttempt,
    ) -> Result<OidcIdentity, OidcError> {
        let client = self
            .client(false)
            .await?
            .set_redirect_uri(address(callback)?);
        let request = client.exchange_code(openid::AuthorizationCode::new(code));
        let verifier = openid::PkceCodeVerifier::new(attempt.verifier);
        let request = request.map_err(unavailable)?.set_pkce_verifier(verifier);
        let tokens = request.request_async(self).await.map_err(of_tokens)?;
        self.identify(&tokens, Some(&attempt.nonce), None).await
    }

    /// What the provider says of the same person now.
    pub async fn renew(&self, known: &OidcIdentity) -> Result<OidcIdentity, OidcError> {
        let Some(refresh) = &known.refresh else {
            return self.described(Map::new(), known.clone()).await;
        };
        let client = self.client(false).await?;
        let refresh = openid::RefreshToken::new(refresh.expose().to_owned());
        let request = client
            .exchange_refresh_token(&refresh)
            .map_err(unavailable)?;
        let tokens = request.request_async(self).await.map_err(of_tokens)?;
        self.identify(&tokens, None, Some(known)).await
    }

    async fn identify(
        &self,
        tokens: &core::CoreTokenResponse,
        nonce: Option<&str>,
        known: Option<&OidcIdentity>,
    ) -> Result<OidcIdentity, OidcError> {
        let claims = match tokens.id_token() {
            Some(token) => self.verified(token, nonce).await?,
            None if known.is_some() => Map::new(),
            None => return Err(refused("it sent no ID token")),
        };
        let subject = claims.get("sub").and_then(Value::as_str);
        let subject = subject
            .or(known.map(|known| &*known.subject))
            .unwrap_or_default();
        if known.is_some_and(|known| known.subject != subject) {
            return Err(refused("it names somebody else"));
        }
        let refresh = tokens
            .refresh_token()
            .map(|token| Secret::new(token.secret()));
        let person = OidcIdentity {
            subject: subject.to_owned(),
            name: String::new(),
            role: None,
            access: Secret::new(tokens.access_token().secret()),
            refresh: refresh.or_else(|| known?.refresh.clone()),
        };
        self.described(claims, person).await
    }

    /// The person with the name and the role that the claims say, or else the provider when it is asked for more.
    async fn described(
        &self,
        mut claims: Map<String, Value>,
        person: OidcIdentity,
    ) -> Result<OidcIdentity, OidcError> {
        let OidcSettings {
            name_claim,
            role_claim,
            roles,
            ..
        } = &self.0.settings;
        if claim(&claims, name_claim).is_none() || claim(&claims, role_claim).is_none() {
            let published = self.published(false).await?;
            if let Some(url) = published.userinfo_endpoint() {
                let access = format!("Bearer {}", person.access.expose());
                let request = Request::get(url.as_str()).header("authorization", access);
                let request = request.body(Vec::new()).map_err(unavailable)?;
                let response = self.send(request).await?;
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        return Err(refused("it does not tell more of the person"));
                    }
                    other => return Err(unavailable(other)),
                }
                let more: Map<String, Value> =
                    serde_json::from_slice(response.body()).map_err(unavailable)?;
                if more.get("sub").and_then(Value::as_str) != Some(&person.subject) {
                    return Err(refused("it tells of somebody else"));
                }
                claims.extend(more);
            }
        }
        let name = claim(&claims, name_claim).and_then(Value::as_str);
        let is_shown = |c: &char| !c.is_control() && !"()".contains(*c);
        let name = name.unwrap_or_default().chars().filter(is_shown);
        Ok(OidcIdentity {
            name: name.take(64).collect::<String>().trim().to_owned(),
            role: roles.of(claim(&claims, role_claim)),
            ..person
        })
    }

    /// The claims of a token that the provider signed for us.
    async fn verified(
        &self,
        token: &CoreIdToken,
        nonce: Option<&str>,
    ) -> Result<Map<String, Value>, OidcError> {
        let check = |client: &Client| {
            // A token without a signature never holds, and one that our secret signs is as good as one of the provider's key.
            let verifier = client.id_token_verifier().allow_any_alg();
            let is_same = |found: Option<&openid::Nonce>| {
                let holds = nonce.is_none() || found.map(|found| found.secret().as_str()) == nonce;
                holds
                    .then_some(())
                    .ok_or_else(|| "it is another".to_owned())
            };
            token.claims(&verifier, is_same).map(drop)
        };
        let mut verdict = check(&self.client(false).await?);
        if let Err(ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey,
        )) = verdict
        {
            verdict = check(&self.client(true).await?);
        }
        verdict.map_err(|error| refused(format!("its ID token does not hold: {error}")))?;
        let token = token.to_string();
        let payload = token.split('.').nth(1).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(unavailable)?;
        serde_json::from_slice(&payload).map_err(unavailable)
    }

    async fn client(&self, anew: bool) -> Result<Client, OidcError> {
        let OidcSettings {
            client_id,
            client_secret,
            ..
        } = &self.0.settings;
        let id = openid::ClientId::new(client_id.clone());
        let secret = openid::ClientSecret::new(client_secret.expose().to_owned());
        let metadata = CoreProviderMetadata::clone(&*self.published(anew).await?);
        Ok(core::CoreClient::from_provider_metadata(
            metadata,
            id,
            Some(secret),
        ))
    }

    /// What the provider publishes of itself; with `anew`, as it is now.
    async fn published(&self, anew: bool) -> Published {
        // Who comes meanwhile waits for the same answer.
        let mut last = self.0.published.lock().await;
        let now = self.0.clock.instant();
        if let Some((known, at)) = &*last {
            let enough = if anew || known.is_err() { PAUSE } else { KEPT };
            if now.saturating_duration_since(*at) < enough {
                return known.clone();
            }
        }
        let issuer = openid::IssuerUrl::new(self.0.settings.issuer.clone());
        let fetched =
            CoreProviderMetadata::discover_async(issuer.map_err(unavailable)?, self).await;
        let published = match (fetched, last.take()) {
            (Ok(metadata), _) => Ok(Arc::new(metadata)),
            (Err(_), Some((Ok(known), _))) => Ok(known),
            (Err(error), _) => Err(unavailable(causes(&error))),
        };
        *last = Some((published.clone(), now));
        published
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OidcError> {
        let (parts, body) = request.into_parts();
        let uri = parts.uri.to_string();
        if self.0.settings.issuer.starts_with("https:") && !uri.starts_with("https:") {
            return Err(refused(format!(
                "it wants to be asked without TLS at {uri}"
            )));
        }
        // A code and a token may be used once.
        let has_left = || parts.method != Method::GET;
        let connections = &self.0.connections;
        let request = |client: &reqwest::Client| {
            let request = client.request(parts.method.clone(), &uri).timeout(TIMEOUT);
            request.headers(parts.headers.clone()).body(body.clone())
        };
        let sent = connections.send(request, Again::Unless(&has_left)).await;
        let response = sent.map_err(|error| {
            connections.failed();
            unavailable(causes(&error))
        })?;
        connections.answered(response.status().as_u16());
        let (status, headers) = (response.status(), response.headers().clone());
        let body = Content::of(response, LARGEST).whole().await;
        let mut response = HttpResponse::new(body.map_err(unavailable)?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl<'c> openid::AsyncHttpClient<'c> for OidcProvider {
    type Error = OidcError;
    type Future = BoxFuture<'c, Result<HttpResponse, OidcError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl OidcRoles {
    /// The highest that a claim gives: a text, or a list of them.
    fn of(&self, claim: Option<&Value>) -> Option<Role> {
        let claim = claim?;
        let values = claim
            .as_array()
            .map_or(std::slice::from_ref(claim), Vec::as_slice);
        let gives = |names: &[String]| {
            let mut values = values.iter().filter_map(Value::as_str);
            values.any(|value| names.iter().any(|name| name == value))
        };
        let mut roles = Role::ALL.into_iter().rev();
        roles.find(|role| match role {
            Role::Admin => gives(&self.admin),
            Role::Operator => gives(&self.operator),
            Role::Viewer => gives(&self.viewer),
        })
    }
}

/// A claim of this name, or at the end of this way.
fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let mut way = name.split('.');
        let first = claims.get(way.next()?)?;
        way.try_fold(first, |claim, name| claim.get(name))
    })
}

fn address(text: &str) -> Result<openid::RedirectUrl, OidcError> {
    openid::RedirectUrl::new(text.to_owned()).map_err(unavailable)
}

type TokenError = openid::StandardErrorResponse<CoreErrorResponseType>;

fn of_tokens(error: RequestTokenError<OidcError, TokenError>) -> OidcError {
    match error {
        RequestTokenError::ServerResponse(said)
            if *said.error() == CoreErrorResponseType::InvalidGrant =>
        {
            refused(said)
        }
        RequestTokenError::Request(error) => error,
        other @ (RequestTokenError::ServerResponse(_)
        | RequestTokenError::Parse(..)
        | RequestTokenError::Other(_)) => unavailable(causes(&other)),
    }
}

fn unavailable(why: impl Display) -> OidcError {
    OidcError::Unavailable(why.to_string())
}

fn refused(why: impl Display) -> OidcError {
    OidcError::Refused(why.to_string())
}

/// An error and what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
impl OidcIdentity {
    pub(crate) fn made_up(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            name: String::new(),
            role: None,
            access: Secret::new(""),
            refresh: None,
        }
    }
}
