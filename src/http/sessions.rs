//! Sessions of the dashboard: a key exchanged for a cookie.
//!
//! A session is 256 random bits that only the browser holds; SHA-256 of them is kept, in memory and in the database, so that it outlives a
//! restart. It stands for the key it came from: it may what that key may now, and ends when the key is taken away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum_extra::extract::cookie::{Cookie, SameSite};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::auth::{self, Holder, KeyHash, Keys};
use super::error::{ApiError, Kind};
use crate::clock::Clock;
use crate::resilience::TokenBucket;
use crate::store::{Store, StoreError, StoredSession};

/// A session that is not used for so long is over.
const IDLE: SignedDuration = SignedDuration::from_hours(8);
/// A session is over after so long, however much it is used.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Use is noted in the database at most this often.
const NOTE_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Sessions at the same time; the one that was not used for longest makes room.
const MOST: usize = 1_000;
/// Wrong keys of one address that are answered in a minute, a quarter of them at once; more are told to wait.
const WRONG_PER_MINUTE: u32 = 40;
/// Addresses whose attempts are counted at the same time.
const MOST_SOURCES: usize = 10_000;

/// The name of the cookie.
pub(super) const COOKIE: &str = "switchboard_session";
/// Its name under TLS: a browser takes it from this host alone, and only encrypted.
pub(super) const SECURE_COOKIE: &str = "__Host-switchboard_session";

/// SHA-256 of a session's secret.
type TokenHash = [u8; 32];

/// All sessions, and who tries to get one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Keys,
    store: Store,
    clock: Clock,
    open: Mutex<HashMap<TokenHash, Session>>,
    attempts: Mutex<HashMap<IpAddr, TokenBucket>>,
}

#[derive(Clone, Debug)]
struct Session {
    key: KeyHash,
    created_at: Timestamp,
    used_at: Timestamp,
    noted_at: Timestamp,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.used_at) > IDLE || now.duration_since(self.created_at) > LONGEST
    }
}

/// A session that has just begun.
pub(super) struct Begun {
    /// What the browser is to keep.
    pub(super) cookie: HeaderValue,
    /// Whose it is.
    pub(super) holder: Holder,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NoSession {
    /// No such key.
    Unknown,
    /// Too many wrong keys from this address.
    TooMany,
    /// The database does not take it.
    Store(StoreError),
    /// The system gives no random bytes.
    NoRandom,
}

impl Sessions {
    /// Nobody is logged in.
    pub fn new(keys: Keys, store: Store, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            keys,
            store,
            clock,
            open: Mutex::default(),
            attempts: Mutex::default(),
        }))
    }

    /// Takes up the sessions that the database holds.
    pub async fn restore(&self) {
        let now = self.0.clock.now();
        let stored = self.0.store.sessions().await.unwrap_or_else(|error| {
            tracing::error!(event = "auth.sessions_unread", error = %error, "the sessions cannot be read; everybody has to log in again");
            Vec::new()
        });
        let open = stored.into_iter().filter_map(|stored| {
            let session = Session {
                key: KeyHash::from_bytes(stored.key_hash),
                created_at: stored.created_at,
                used_at: stored.used_at,
                noted_at: stored.used_at,
            };
            (!session.is_over(now)).then_some((stored.token_hash, session))
        });
        self.lock().extend(open);
    }

    /// Who asks: by a key where one is sent, else by a session.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<Holder, ApiError> {
        if headers.contains_key(auth::HEADER) || !has_cookie(headers) {
            return self.0.keys.authenticate(headers);
        }
        self.holder(headers).ok_or_else(|| {
            metrics::counter!("switchboard_auth_failures_total", "reason" => "session")
                .increment(1);
            ApiError::new(Kind::Authentication, "The session has ended; log in again.")
        })
    }

    /// The same for a request: a session changes things from our own pages only.
    pub(super) fn asks(&self, request: &Parts) -> Result<Holder, ApiError> {
        let headers = &request.headers;
        let holder = self.authenticate(headers)?;
        let by_session = !headers.contains_key(auth::HEADER);
        if by_session && !request.method.is_safe() && is_same_origin(headers) != Some(true) {
            metrics::counter!("switchboard_auth_failures_total", "reason" => "other_site")
                .increment(1);
            return Err(other_site());
        }
        Ok(holder)
    }

    /// Exchanges a key for a session, slowly where wrong ones come from the same address.
    pub(super) async fn begin(
        &self,
        key: &str,
        source: IpAddr,
        is_tls: bool,
    ) -> Result<Begun, NoSession> {
        if !self.may_try(source) {
            return Err(NoSession::TooMany);
        }
        let Some((holder, hash)) = self.0.keys.holder(key.as_bytes()) else {
            return Err(NoSession::Unknown);
        };
        self.give_back(source);
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| NoSession::NoRandom)?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let now = self.0.clock.now();
        let token_hash = hash_of(&token);
        let stored = StoredSession {
            token_hash,
            key_hash: hash.bytes(),
            created_at: now,
            used_at: now,
        };
        self.0
            .store
            .keep_session(stored)
            .await
            .map_err(NoSession::Store)?;
        let evicted = self.open(token_hash, hash, now);
        for token_hash in evicted {
            self.forget(token_hash).await;
        }
        Ok(Begun {
            cookie: cookie(&token, is_tls, Some(LONGEST)),
            holder,
        })
    }

    /// Adds a session; gives those that had to go.
    fn open(&self, token_hash: TokenHash, key: KeyHash, now: Timestamp) -> Vec<TokenHash> {
        let mut open = self.lock();
        let mut evicted: Vec<TokenHash> = open
            .iter()
            .filter(|(_, session)| session.is_over(now))
            .map(|(hash, _)| *hash)
            .collect();
        if open.len() - evicted.len() >= MOST {
            let oldest = open.iter().min_by_key(|(_, session)| session.used_at);
            evicted.extend(oldest.map(|(hash, _)| *hash));
        }
        for hash in &evicted {
            open.remove(hash);
        }
        let session = Session {
            key,
            created_at: now,
            used_at: now,
            noted_at: now,
        };
        open.insert(token_hash, session);
        evicted
    }

    /// Who holds the session whose cookie is in `headers`, and notes its use.
    pub(super) fn holder(&self, headers: &HeaderMap) -> Option<Holder> {
        let token_hash = hash_of(&token(headers)?);
        let now = self.0.clock.now();
        let mut note = None;
        let key = {
            let mut open = self.lock();
            let session = open.get_mut(&token_hash)?;
            if session.is_over(now) {
                open.remove(&token_hash);
                return None;
            }
            session.used_at = now;
            if now.duration_since(session.noted_at) >= NOTE_EVERY {
                session.noted_at = now;
                note = Some(StoredSession {
                    token_hash,
                    key_hash: session.key.bytes(),
                    created_at: session.created_at,
                    used_at: now,
                });
            }
            session.key
        };
        if let Some(stored) = note {
            self.0.store.note_session(stored);
        }
        self.0.keys.holder_of(key)
    }

    /// Ends the session whose cookie is in `headers`; says whose it was.
    pub(super) async fn end(&self, headers: &HeaderMap) -> Option<Holder> {
        let token_hash = hash_of(&token(headers)?);
        let session = self.lock().remove(&token_hash)?;
        self.forget(token_hash).await;
        self.0.keys.holder_of(session.key)
    }

    async fn forget(&self, token_hash: TokenHash) {
        if let Err(error) = self.0.store.end_session(token_hash).await {
            tracing::warn!(event = "auth.session_kept", error = %error, "a session that has ended could not be deleted; it ends by its time");
        }
    }

    /// A wrong key costs a token of its address; a right one gets it back.
    fn may_try(&self, source: IpAddr) -> bool {
        let now = self.0.clock.instant();
        let mut attempts = self.attempts();
        if attempts.len() >= MOST_SOURCES && !attempts.contains_key(&network(source)) {
            attempts.clear();
        }
        attempts
            .entry(network(source))
            .or_insert_with(|| TokenBucket::new(now, WRONG_PER_MINUTE))
            .try_take(now)
    }

    fn give_back(&self, source: IpAddr) {
        self.attempts().remove(&network(source));
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<IpAddr, TokenBucket>> {
        self.0
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Session>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one customer of a provider has: an IPv4 address, or an IPv6 /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// The session's secret from the cookies of a request.
fn token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|line| line.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        [COOKIE, SECURE_COOKIE]
            .contains(&name)
            .then(|| value.to_owned())
    });
    pairs.next()
}

/// Whether the request carries a session's cookie, good or bad.
pub(super) fn has_cookie(headers: &HeaderMap) -> bool {
    token(headers).is_some()
}

/// The cookie of a session; without an age it takes the cookie away.
pub(super) fn cookie(token: &str, is_tls: bool, age: Option<SignedDuration>) -> HeaderValue {
    let name = if is_tls { SECURE_COOKIE } else { COOKIE };
    let cookie = Cookie::build((name, token.to_owned()))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(is_tls)
        .build();
    let age = age.map_or(0, |age| age.as_secs());
    let text = format!("{cookie}; Max-Age={age}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Whether a request that changes something comes from our own pages: browsers say where from. `None` where nothing is said.
pub(super) fn is_same_origin(headers: &HeaderMap) -> Option<bool> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return Some(site == "same-origin");
    }
    let origin = text("origin")?;
    let host = text("host")?;
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    Some(authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)))
}

/// What a session is told that is used from elsewhere.
pub(super) fn other_site() -> ApiError {
    ApiError::new(
        Kind::Permission,
        "A session changes things from our own pages only; send a key in X-API-Key instead.",
    )
}
