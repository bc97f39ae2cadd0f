//! Sessions of the dashboard: a key exchanged for a cookie.
//!
//! A session is 256 random bits that only the browser holds; SHA-256 of them is kept, in memory and in the database, so that it outlives a
//! restart. It stands for the key it came from: it may what that key may now, and ends when the key is taken away.
//!
//! The session of a person who signed in at the provider is in memory alone, and so are the tokens by which the provider is asked again: after a
//! restart, signing in is one click.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum_extra::extract::cookie::{Cookie, SameSite};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::error::{ApiError, ErrorKind};
use super::keys::{self, Holder, KeyHash, Keys};
use super::limit::ConcurrencyLimit;
use super::refusals::network;
use crate::clock::Clock;
use crate::oidc::OidcIdentity;
use crate::resilience::TokenBucket;
use crate::store::{Store, StoredSession};

/// A session that is not used for so long is over.
const IDLE: SignedDuration = SignedDuration::from_hours(8);
/// A session is over after so long, however much it is used.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The same of a person who signed in at the provider, …
const LONGEST_OF_PERSON: SignedDuration = SignedDuration::from_hours(12);
/// … whose session is over as well where the provider has not confirmed them for so long.
const UNCONFIRMED: SignedDuration = SignedDuration::from_hours(1);
/// What takes a fresh sign-in takes one that is at most so old.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// Use is noted in the database at most this often.
const NOTE_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Sessions at the same time. Of the key that has most of them, the one that was not used for longest makes room.
const MOST: usize = 1_000;
/// Sessions of one key at the same time; the one that was not used for longest makes room.
const MOST_OF_KEY: usize = 100;
/// Wrong keys of one network that are answered in a minute, a quarter of them at once; more are told to wait.
const WRONG_PER_MINUTE: u32 = 40;
/// Networks whose wrong keys are counted at the same time; the oldest makes room.
const MOST_NETWORKS: usize = 10_000;
/// Log-ins that are written down at the same time, and those of one network among them.
const LOG_INS: usize = 8;
const LOG_INS_OF_NETWORK: usize = 2;

/// What a page of ours says of a request that it makes by itself, without anybody at the screen: such a request is no use of its session.
pub(super) const UNATTENDED: &str = "x-unattended";

/// The name of the cookie.
pub(super) const COOKIE: &str = "switchboard_session";
/// Its name under TLS: a browser takes it from this host alone, and only encrypted.
pub(super) const SECURE_COOKIE: &str = "__Host-switchboard_session";

/// A cookie's name, and its name under TLS.
pub(super) type CookieNames = [&'static str; 2];
const COOKIES: CookieNames = [COOKIE, SECURE_COOKIE];

/// SHA-256 of a session's secret.
pub(super) type TokenHash = [u8; 32];

/// The public address, as browsers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Scheme, host and port as a browser sends them in `Origin`: in lower case, without the port of the scheme.
    pub origin: String,
    /// Whether browsers speak TLS, to us or to a proxy in front of us.
    pub is_secure: bool,
    /// What every path of ours begins with outside, like `/calls`, where a proxy takes that away; empty else.
    pub base: String,
}

impl Site {
    /// A path of ours, as a browser has to ask for it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether a request that changes something comes from our own pages: browsers say where from. `None` where nothing is said.
    ///
    /// A proxy may have written its own host into `Host`, so what counts is the public address; and the host that was asked, for who comes to
    /// the listener itself.
    pub(super) fn is_own(&self, headers: &HeaderMap) -> Option<bool> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(site) = text("sec-fetch-site") {
            return Some(site == "same-origin");
        }
        let origin = text("origin")?;
        if origin.eq_ignore_ascii_case(&self.origin) {
            return Some(true);
        }
        let host = text("host")?;
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        Some(authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)))
    }
}

/// All sessions, and who tries to get one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<SessionsState>);

#[derive(Debug)]
struct SessionsState {
    keys: Keys,
    store: Store,
    clock: Clock,
    site: ArcSwap<Site>,
    open: Mutex<HashMap<TokenHash, Session>>,
    wrong: Mutex<WrongKeys>,
    log_ins: ConcurrencyLimit,
}

/// How many wrong keys each network may still send now.
#[derive(Debug, Default)]
struct WrongKeys {
    left: HashMap<IpNet, TokenBucket>,
    /// The networks, the one that came first at the front.
    order: VecDeque<IpNet>,
}

impl WrongKeys {
    fn may_fail(&mut self, network: IpNet, now: Instant) -> bool {
        if !self.left.contains_key(&network) {
            if self.order.len() >= MOST_NETWORKS
                && let Some(oldest) = self.order.pop_front()
            {
                self.left.remove(&oldest);
            }
            self.order.push_back(network);
        }
        let fresh = || TokenBucket::new(now, WRONG_PER_MINUTE);
        self.left.entry(network).or_insert_with(fresh).try_take(now)
    }

    fn forgive(&mut self, network: IpNet, now: Instant) {
        if let Some(left) = self.left.get_mut(&network) {
            *left = TokenBucket::new(now, WRONG_PER_MINUTE);
        }
    }
}

#[derive(Clone, Debug)]
struct Session {
    /// Of a person, the hash of their subject.
    key: KeyHash,
    person: Option<Arc<KnownPerson>>,
    created_at: Timestamp,
    used_at: Timestamp,
    noted_at: Timestamp,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        let (longest, confirmed_at) = match &self.person {
            Some(person) => (LONGEST_OF_PERSON, person.confirmed_at),
            None => (LONGEST, now),
        };
        now.duration_since(self.used_at) > IDLE
            || now.duration_since(self.created_at) > longest
            || now.duration_since(confirmed_at) > UNCONFIRMED
    }

    fn holder(&self, keys: &Keys) -> Option<Holder> {
        match &self.person {
            Some(person) => Some(person.holder.clone()),
            None => keys.holder_of(self.key),
        }
    }

    fn to_store(&self, token_hash: TokenHash) -> StoredSession {
        StoredSession {
            token_hash,
            key_hash: self.key.bytes(),
            created_at: self.created_at,
            used_at: self.used_at,
        }
    }
}

/// Somebody who signed in at the provider.
#[derive(Clone, Debug)]
pub(super) struct KnownPerson {
    pub(super) holder: Holder,
    pub(super) identity: OidcIdentity,
    /// When the provider last said so.
    pub(super) confirmed_at: Timestamp,
}

/// A session that has just begun.
pub(super) struct Begun {
    /// What the browser is to keep.
    pub(super) cookie: HeaderValue,
    pub(super) holder: Holder,
}

impl Sessions {
    pub fn new(keys: Keys, store: Store, clock: Clock, site: Site) -> Self {
        Self(Arc::new(SessionsState {
            keys,
            store,
            clock,
            site: ArcSwap::from_pointee(site),
            open: Mutex::default(),
            wrong: Mutex::default(),
            log_ins: ConcurrencyLimit::shared(LOG_INS, LOG_INS_OF_NETWORK),
        }))
    }

    /// How browsers reach us from now on.
    pub fn move_to(&self, site: Site) {
        self.0.site.store(Arc::new(site));
    }

    pub(super) fn site(&self) -> Arc<Site> {
        self.0.site.load_full()
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
                person: None,
                created_at: stored.created_at,
                used_at: stored.used_at,
                noted_at: stored.used_at,
            };
            (!session.is_over(now)).then_some((stored.token_hash, session))
        });
        self.lock().extend(open);
    }

    /// Who asks: by a key where one is sent, else by a session.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Holder, ApiError> {
        if headers.contains_key(keys::HEADER) || !self.has_cookie(headers) {
            return self.0.keys.authenticate(headers);
        }
        self.holder(headers).ok_or_else(|| {
            metrics::counter!("switchboard_auth_failures_total", "reason" => "session")
                .increment(1);
            ApiError::new(
                ErrorKind::Authentication,
                "The session has ended; log in again.",
            )
        })
    }

    /// Whether who asked with these headers may still see. To look is no use of a session.
    pub(super) fn may_still_see(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(keys::HEADER) {
            return self.0.keys.known(headers).is_some();
        }
        let now = self.0.clock.now();
        let session = self.token(headers).and_then(|token| {
            let session = self.lock().get(&hash_of(&token))?.clone();
            (!session.is_over(now)).then_some(session)
        });
        session.is_some_and(|session| session.holder(&self.0.keys).is_some())
    }

    /// Says when somebody lost a right.
    pub(super) fn rights(&self) -> watch::Receiver<()> {
        self.0.keys.changes()
    }

    /// The same for a request: a session changes things from our own pages only.
    pub(super) fn asks(&self, request: &Parts) -> Result<Holder, ApiError> {
        let headers = &request.headers;
        let holder = self.authenticate(headers)?;
        let by_session = !headers.contains_key(keys::HEADER);
        if by_session && !request.method.is_safe() && self.site().is_own(headers) != Some(true) {
            return Err(other_site(Some(holder.name)));
        }
        Ok(holder)
    }

    /// Whether who asks has signed in a moment ago. A key is shown anew with each request.
    pub(super) fn is_fresh(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(keys::HEADER) {
            return true;
        }
        let now = self.0.clock.now();
        self.token(headers).is_some_and(|token| {
            let open = self.lock();
            let session = open.get(&hash_of(&token));
            session.is_some_and(|session| now.duration_since(session.created_at) <= FRESH)
        })
    }

    /// Exchanges a key for a session. A right key always passes; wrong ones are told to wait where many come from the same network.
    pub(super) async fn begin(&self, key: &str, source: IpAddr) -> Result<Begun, ApiError> {
        let network = network(source);
        let instant = self.0.clock.instant();
        let Some((holder, key)) = self.0.keys.holder(key.as_bytes()) else {
            let may_fail = self.wrong().may_fail(network, instant);
            let (kind, message, reason) = if may_fail {
                let message = "The key is not known.";
                (ErrorKind::Authentication, message, "log_in")
            } else {
                let message = "The key is not known, and there were too many wrong ones from this network; wait a few seconds.";
                (ErrorKind::RateLimit, message, "too_many")
            };
            return Err(ApiError::refused(kind, message, reason, None));
        };
        self.wrong().forgive(network, instant);
        let Some(_permit) = self.0.log_ins.acquire_from(network).await else {
            return Err(ApiError::busy());
        };
        self.enter(key, None, holder).await
    }

    /// Begins the session of a person whom the provider vouches for.
    pub(super) async fn begin_person(&self, person: KnownPerson) -> Result<Begun, ApiError> {
        let holder = person.holder.clone();
        let key = KeyHash::of(person.identity.subject.as_bytes());
        self.enter(key, Some(Arc::new(person)), holder).await
    }

    async fn enter(
        &self,
        key: KeyHash,
        person: Option<Arc<KnownPerson>>,
        holder: Holder,
    ) -> Result<Begun, ApiError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| ApiError::internal())?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let token_hash = hash_of(&token);
        let now = self.0.clock.now();
        let session = Session {
            key,
            person,
            created_at: now,
            used_at: now,
            noted_at: now,
        };
        let mut longest = LONGEST_OF_PERSON;
        if session.person.is_none() {
            longest = LONGEST;
            let stored = self.0.store.keep_session(session.to_store(token_hash));
            stored.await.map_err(ApiError::store)?;
        }
        for evicted in self.open(token_hash, session) {
            self.forget(evicted).await;
        }
        Ok(Begun {
            cookie: self.cookie(&token, Some(longest)),
            holder,
        })
    }

    /// Adds a session that begins; gives those that had to go.
    fn open(&self, token_hash: TokenHash, session: Session) -> Vec<TokenHash> {
        let mut open = self.lock();
        let over = open.extract_if(|_, known| known.is_over(session.created_at));
        let mut evicted: Vec<TokenHash> = over.map(|(hash, _)| hash).collect();
        if let Some(oldest) = oldest_in_the_way(&open, session.key) {
            open.remove(&oldest);
            evicted.push(oldest);
        }
        open.insert(token_hash, session);
        evicted
    }

    /// Who holds the session whose cookie is in `headers`, and notes its use.
    pub(super) fn holder(&self, headers: &HeaderMap) -> Option<Holder> {
        let token_hash = hash_of(&self.token(headers)?);
        let now = self.0.clock.now();
        let mut note = None;
        let session = {
            let mut open = self.lock();
            let session = open.get_mut(&token_hash)?;
            if session.is_over(now) {
                open.remove(&token_hash);
                return None;
            }
            if is_attended(headers) {
                session.used_at = now;
            }
            if session.used_at > session.noted_at
                && now.duration_since(session.noted_at) >= NOTE_EVERY
            {
                session.noted_at = now;
                note = Some(session.to_store(token_hash));
            }
            session.clone()
        };
        if let Some(stored) = note.filter(|_| session.person.is_none()) {
            self.0.keys.used(session.key);
            self.0.store.note_session(stored);
        }
        session.holder(&self.0.keys)
    }

    /// Ends the session whose cookie is in `headers`; says whose it was.
    pub(super) async fn end(&self, headers: &HeaderMap) -> Option<Holder> {
        let token_hash = hash_of(&self.token(headers)?);
        let session = self.lock().remove(&token_hash)?;
        self.0.keys.say_changed();
        self.forget(token_hash).await;
        session.holder(&self.0.keys)
    }

    /// The sessions of people whom the provider did not confirm since then.
    pub(super) fn unconfirmed(&self, since: Timestamp) -> Vec<(TokenHash, Arc<KnownPerson>)> {
        let open = self.lock();
        let people = open.iter().filter_map(|(token_hash, session)| {
            let person = session.person.as_ref()?;
            (person.confirmed_at <= since).then(|| (*token_hash, Arc::clone(person)))
        });
        people.collect()
    }

    /// What the provider says of the person of a session now; `None` ends it.
    pub(super) fn confirm(&self, token_hash: TokenHash, person: Option<KnownPerson>) {
        let mut open = self.lock();
        match (open.get_mut(&token_hash), person) {
            (Some(session), Some(person)) => session.person = Some(Arc::new(person)),
            (_, None) => {
                open.remove(&token_hash);
                self.0.keys.say_changed();
            }
            (None, Some(_)) => {}
        }
    }

    /// Ends the sessions of everybody who signed in at the provider.
    pub(super) fn end_people(&self) {
        self.lock().retain(|_, session| session.person.is_none());
        self.0.keys.say_changed();
    }

    async fn forget(&self, token_hash: TokenHash) {
        if let Err(error) = self.0.store.end_session(token_hash).await {
            tracing::warn!(event = "auth.session_kept", error = %error, "a session that has ended could not be deleted; it ends by its time");
        }
    }

    /// The session's secret from the cookies of a request. Under TLS only the name counts that a browser takes from this host alone.
    fn token(&self, headers: &HeaderMap) -> Option<String> {
        self.read_cookie(headers, COOKIES)
    }

    pub(super) fn read_cookie(&self, headers: &HeaderMap, names: CookieNames) -> Option<String> {
        let wanted = self.cookie_name(names);
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|line| line.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == wanted).then(|| value.to_owned())
        });
        pairs.next()
    }

    /// Whether the request carries a session's cookie, good or bad.
    pub(super) fn has_cookie(&self, headers: &HeaderMap) -> bool {
        self.token(headers).is_some()
    }

    fn cookie_name(&self, [plain, secure]: CookieNames) -> &'static str {
        if self.0.site.load().is_secure {
            secure
        } else {
            plain
        }
    }

    /// The cookie of a session; without an age it takes the cookie away.
    pub(super) fn cookie(&self, token: &str, age: Option<SignedDuration>) -> HeaderValue {
        self.write_cookie(COOKIES, token, age, SameSite::Strict)
    }

    pub(super) fn write_cookie(
        &self,
        names: CookieNames,
        value: &str,
        age: Option<SignedDuration>,
        same_site: SameSite,
    ) -> HeaderValue {
        let cookie = Cookie::build((self.cookie_name(names), value.to_owned()))
            .path("/")
            .http_only(true)
            .same_site(same_site)
            .secure(self.0.site.load().is_secure)
            .build();
        let age = age.map_or(0, |age| age.as_secs());
        let text = format!("{cookie}; Max-Age={age}");
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }

    fn wrong(&self) -> MutexGuard<'_, WrongKeys> {
        self.0.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Session>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session that has to go so that `key` gets one more: its own oldest, or that of the key that has most.
fn oldest_in_the_way(open: &HashMap<TokenHash, Session>, key: KeyHash) -> Option<TokenHash> {
    let n_of = |key: KeyHash| open.values().filter(|session| session.key == key).count();
    let crowded = if n_of(key) >= MOST_OF_KEY {
        key
    } else if open.len() >= MOST {
        let keys = open.values().map(|session| session.key);
        keys.max_by_key(|key| n_of(*key))?
    } else {
        return None;
    };
    let of_key = open.iter().filter(|(_, session)| session.key == crowded);
    let oldest = of_key.min_by_key(|(_, session)| session.used_at);
    oldest.map(|(hash, _)| *hash)
}

/// Whether somebody is at the screen: not where a page asks by itself, or holds a stream open.
fn is_attended(headers: &HeaderMap) -> bool {
    let is_stream = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == "text/event-stream");
    !is_stream && !headers.contains_key(UNATTENDED)
}

fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// What a session is told that is used from elsewhere. `key` is the one that it stands for, where one is known.
pub(super) fn other_site(key: Option<Arc<str>>) -> ApiError {
    let message =
        "A session changes things from our own pages only; send a key in X-API-Key instead.";
    ApiError::refused(ErrorKind::Permission, message, "other_site", key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use axum::http::HeaderName;

    use super::super::keys::{ApiKey, DrawnKey, Role};
    use super::*;
    use crate::store::{KeyRing, Options};

    struct Desk {
        sessions: Sessions,
        clock: Clock,
        admin: String,
        viewer: String,
        _directory: tempfile::TempDir,
    }

    fn key(name: &str, role: Role, drawn: &DrawnKey) -> ApiKey {
        ApiKey {
            name: name.into(),
            role,
            hash: drawn.hash,
        }
    }

    fn desk() -> Desk {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::stopped("2026-11-26T12:00:00Z".parse().unwrap());
        let path = directory.path().join("switchboard.db");
        let options = Options::new(path, clock.clone(), KeyRing::new(&[7; 32]));
        let store = Store::open(&options).unwrap();
        let (admin, viewer) = (DrawnKey::draw().unwrap(), DrawnKey::draw().unwrap());
        let keys = Keys::new(vec![
            key("ops", Role::Admin, &admin),
            key("desk", Role::Viewer, &viewer),
        ]);
        Desk {
            sessions: Sessions::new(keys, store, clock.clone(), Site::default()),
            clock,
            admin: admin.key,
            viewer: viewer.key,
            _directory: directory,
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    impl Desk {
        /// What a browser sends of the session that begins.
        async fn log_in(&self, key: &str) -> HeaderMap {
            let begun = self.sessions.begin(key, HERE).await.unwrap();
            let cookie = begun.cookie.to_str().unwrap();
            let cookie = cookie.split(';').next().unwrap().parse().unwrap();
            [(header::COOKIE, cookie)].into_iter().collect()
        }

        async fn wrong(&self, source: IpAddr) -> &'static str {
            let begun = self.sessions.begin("swb_wrong", source).await;
            let refused = begun.err().expect("a wrong key opens");
            match refused.refusal().map(|refused| refused.reason) {
                Some("log_in") => "unknown",
                Some("too_many") => "too many",
                other => panic!("{other:?}"),
            }
        }

        fn passes(&self, hours: i64) {
            let at = self.clock.now() + SignedDuration::from_hours(hours);
            self.clock.set(at);
        }
    }

    fn with(headers: &HeaderMap, name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = headers.clone();
        headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn a_session_in_use_ends_after_seven_days() {
        let desk = desk();
        let headers = desk.log_in(&desk.admin).await;
        for hour in 0..7 * 24 {
            assert!(desk.sessions.holder(&headers).is_some(), "hour {hour}");
            desk.passes(1);
        }
        assert!(desk.sessions.holder(&headers).is_some(), "its last moment");
        desk.passes(1);
        assert!(desk.sessions.holder(&headers).is_none());
    }

    #[tokio::test]
    async fn a_person_is_out_after_twelve_hours_or_an_hour_without_the_provider() {
        let desk = desk();
        let enter = async || {
            let person = KnownPerson {
                holder: Holder {
                    name: "Ada (oidc 1)".into(),
                    role: Role::Admin,
                },
                identity: OidcIdentity::made_up("1"),
                confirmed_at: desk.clock.now(),
            };
            let begun = desk.sessions.begin_person(person).await.unwrap();
            let cookie = begun.cookie.to_str().unwrap();
            let cookie = cookie.split(';').next().unwrap().parse().unwrap();
            [(header::COOKIE, cookie)]
                .into_iter()
                .collect::<HeaderMap>()
        };
        let headers = enter().await;
        for _ in 0..12 {
            desk.passes(1);
            let now = desk.clock.now();
            for (token, person) in desk.sessions.unconfirmed(now) {
                let mut person = KnownPerson::clone(&person);
                person.confirmed_at = now;
                desk.sessions.confirm(token, Some(person));
            }
            assert!(desk.sessions.holder(&headers).is_some());
        }
        desk.clock.advance(Duration::from_millis(1));
        assert!(!desk.sessions.may_still_see(&headers));
        let headers = enter().await;
        desk.passes(1);
        assert!(desk.sessions.may_still_see(&headers));
        desk.clock.advance(Duration::from_millis(1));
        assert!(!desk.sessions.may_still_see(&headers));
        let headers = enter().await;
        desk.sessions.end_people();
        assert!(desk.sessions.holder(&headers).is_none());
        assert!(desk.sessions.0.store.sessions().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_page_asks_by_itself_does_not_keep_its_session() {
        let desk = desk();
        let headers = desk.log_in(&desk.admin).await;
        let by_itself = with(&headers, UNATTENDED, "true");
        let stream = with(&headers, "accept", "text/event-stream");
        for _ in 0..8 {
            desk.passes(1);
            assert!(desk.sessions.holder(&by_itself).is_some());
            assert!(desk.sessions.holder(&stream).is_some());
            assert!(desk.sessions.may_still_see(&headers));
        }
        desk.passes(1);
        assert!(!desk.sessions.may_still_see(&headers));
        assert!(desk.sessions.holder(&stream).is_none());
        assert!(desk.sessions.holder(&headers).is_none());
    }

    #[tokio::test]
    async fn a_right_key_always_passes_and_gives_its_network_the_tries_back() {
        let desk = desk();
        for round in 0..3 {
            for n in 0..10 {
                assert_eq!(desk.wrong(HERE).await, "unknown", "{round} {n}");
            }
            assert_eq!(desk.wrong(HERE).await, "too many");
            let neighbour = [192, 0, 2, 200].into();
            assert_eq!(desk.wrong(neighbour).await, "too many");
            desk.log_in(&desk.viewer).await;
        }
    }

    #[tokio::test]
    async fn log_ins_of_one_network_leave_room_for_those_of_others() {
        let desk = desk();
        let enter = || desk.sessions.0.log_ins.acquire_from(network(HERE));
        let _held: [_; LOG_INS_OF_NETWORK] = [enter().await.unwrap(), enter().await.unwrap()];
        let begun = desk.sessions.begin(&desk.admin, HERE).await;
        let busy = ApiError::busy();
        let refused = begun.err().unwrap();
        assert_eq!(refused.status_and_message(), busy.status_and_message());
        let elsewhere = [198, 51, 100, 1].into();
        assert!(desk.sessions.begin(&desk.admin, elsewhere).await.is_ok());
    }

    #[tokio::test]
    async fn wrong_keys_are_counted_by_network_and_the_oldest_count_makes_room() {
        let mut wrong = WrongKeys::default();
        let now = Clock::system().instant();
        let place = |n: u32| network(std::net::Ipv4Addr::from_bits(n << 8).into());
        for n in 0..2 {
            while wrong.may_fail(place(n), now) {}
        }
        for n in 2..=u32::try_from(MOST_NETWORKS).unwrap() {
            assert!(wrong.may_fail(place(n), now));
        }
        assert_eq!(wrong.left.len(), MOST_NETWORKS);
        assert_eq!(wrong.order.len(), MOST_NETWORKS);
        assert!(
            !wrong.may_fail(place(1), now),
            "others are not forgotten with it"
        );
        assert!(wrong.may_fail(place(0), now), "the oldest was forgotten");
    }

    #[tokio::test]
    async fn the_sessions_of_one_key_leave_those_of_others_alone() {
        let desk = desk();
        let admin = desk.log_in(&desk.admin).await;
        desk.clock.advance(Duration::from_secs(1));
        let first = desk.log_in(&desk.viewer).await;
        for _ in 0..MOST_OF_KEY {
            desk.clock.advance(Duration::from_secs(1));
            desk.log_in(&desk.viewer).await;
        }
        assert_eq!(desk.sessions.lock().len(), MOST_OF_KEY + 1);
        assert!(desk.sessions.holder(&admin).is_some());
        assert!(
            desk.sessions.holder(&first).is_none(),
            "its own oldest went"
        );
    }

    #[test]
    fn where_there_are_too_many_the_key_with_most_makes_room() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let key = |n: u8| KeyHash::from_bytes([n; 32]);
        let mut open = HashMap::new();
        for n in 0..MOST {
            let mut token_hash = [0; 32];
            token_hash[..8].copy_from_slice(&n.to_be_bytes());
            // Key 1 holds the oldest session, and one; key 0 has most.
            let of = u8::try_from(n % 20).unwrap();
            let of = if n == 0 {
                1
            } else if of == 1 {
                0
            } else {
                of
            };
            let used_at = at(i64::try_from(n).unwrap());
            let session = Session {
                key: key(of),
                person: None,
                created_at: used_at,
                used_at,
                noted_at: used_at,
            };
            open.insert(token_hash, session);
        }
        let gone = oldest_in_the_way(&open, key(99)).unwrap();
        assert_eq!(
            (open[&gone].key.bytes()[0], open[&gone].used_at),
            (0, at(1))
        );
        open.remove(&gone);
        assert_eq!(oldest_in_the_way(&open, key(99)), None);
    }

    #[tokio::test]
    async fn the_cookie_is_as_safe_as_the_public_address_and_only_its_name_counts() {
        let desk = desk();
        let plain = desk.log_in(&desk.admin).await;
        assert!(desk.sessions.holder(&plain).is_some());
        desk.sessions.move_to(Site {
            is_secure: true,
            ..Site::default()
        });
        assert!(desk.sessions.holder(&plain).is_none(), "another name");
        let begun = desk.sessions.begin(&desk.admin, HERE).await.unwrap();
        let set = begun.cookie.to_str().unwrap().to_owned();
        let parts: BTreeSet<&str> = set.split("; ").skip(1).collect();
        let expected = [
            "HttpOnly",
            "Max-Age=604800",
            "Path=/",
            "SameSite=Strict",
            "Secure",
        ];
        assert_eq!(parts, BTreeSet::from(expected));
        let pair = set.split(';').next().unwrap();
        let token = pair.strip_prefix("__Host-switchboard_session=").unwrap();
        let sent = |cookie: String| -> HeaderMap {
            let cookie = cookie.parse().unwrap();
            [(header::COOKIE, cookie)].into_iter().collect()
        };
        let both = format!("switchboard_session=planted; {pair}");
        assert!(desk.sessions.holder(&sent(both)).is_some());
        let unprefixed = format!("switchboard_session={token}");
        assert!(desk.sessions.holder(&sent(unprefixed)).is_none());
    }

    #[test]
    fn the_public_address_and_the_listener_are_ours_and_nothing_else_is() {
        let site = Site {
            origin: "https://calls.example.com".to_owned(),
            ..Site::default()
        };
        let own = |given: &[(&'static str, &str)]| {
            let given = given
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            site.is_own(&given.collect())
        };
        let inner = ("host", "127.0.0.1:8080");
        for ours in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "https://calls.example.com"), inner],
            &[("origin", "https://calls.example.com")],
            &[("origin", "http://127.0.0.1:8080"), inner],
        ] {
            assert_eq!(own(ours), Some(true), "{ours:?}");
        }
        for foreign in [
            &[
                ("sec-fetch-site", "same-site"),
                ("origin", "https://calls.example.com"),
            ][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://calls.example.com"), inner],
            &[("origin", "https://calls.example.com.evil.example"), inner],
            &[("origin", "https://calls.example.com:8443"), inner],
            &[("origin", "null"), inner],
            &[
                ("origin", "https://evil.example"),
                ("host", "calls.example.com"),
            ],
        ] {
            assert_eq!(own(foreign), Some(false), "{foreign:?}");
        }
        assert_eq!(own(&[inner]), None);
    }
}
