//! What Braze said, and how old that is.
//!
//! moka bounds the number of entries and drops what is too old for any use; whether an entry may be used is decided here,
//! by the clock that everything else goes by. A dropped profile leaves a tombstone, so that an older push that arrives
//! late does not bring it back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use moka::Expiry;
use moka::future::Cache;
use moka::ops::compute::{CompResult, Op};

use super::settings::{Active, BrazeSettings};
use crate::phone::E164;
use crate::routing::Profile;

/// So many changes wait to be persisted; more are left out, and only their warm start is lost. Drops may take as many again.
const MAX_CHANGED: usize = 16_384;

/// One remembered number, as it is persisted and shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedProfile {
    pub phone: E164,
    /// What Braze calls the caller.
    pub external_id: Option<String>,
    pub profile: Profile,
    /// Braze has a profile for the number.
    pub known: bool,
    /// When Braze said so; the Unix epoch where nothing is known (see [`CachedProfile::is_dropped`]).
    pub fetched_at: Timestamp,
    /// When the profile changed, where a push said so.
    pub changed_at: Option<Timestamp>,
}

impl CachedProfile {
    /// Nothing is remembered of the number any more: delete its row.
    pub fn is_dropped(&self) -> bool {
        !self.known && self.fetched_at == Timestamp::UNIX_EPOCH
    }

    pub(super) fn dropped(phone: E164) -> Self {
        Self {
            phone,
            external_id: None,
            profile: Profile::default(),
            known: false,
            fetched_at: Timestamp::UNIX_EPOCH,
            changed_at: None,
        }
    }
}

/// How the cache has served since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub entries: u64,
    /// Look-ups answered by a fresh entry.
    pub hits: u64,
    /// Look-ups answered by a stale entry.
    pub stale: u64,
    /// Look-ups that found no usable entry.
    pub misses: u64,
}

/// What is known of a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    Profile(Profile),
    /// Braze has no profile for it.
    Nobody,
    /// A push said that the profile has no routing fields any more.
    Dropped,
}

impl Known {
    pub(super) fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Profile(profile) => Some(profile),
            Self::Nobody | Self::Dropped => None,
        }
    }
}

/// What is remembered of a number. Its age goes by the monotonic clock; what it was on entry is added.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) known: Known,
    pub(super) external_id: Option<String>,
    pub(super) fetched_at: Timestamp,
    pub(super) changed_at: Option<Timestamp>,
    pub(super) entered_at: Instant,
    pub(super) age_before: Duration,
}

/// Whether an entry may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    Stale,
    Spent,
}

impl Entry {
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age_before + now.saturating_duration_since(self.entered_at)
    }

    pub(super) fn freshness(&self, now: Instant, settings: &BrazeSettings) -> Freshness {
        let age = self.age(now);
        match self.known {
            Known::Profile(_) if age <= settings.cache_ttl => Freshness::Fresh,
            Known::Profile(_) if age <= settings.stale_for => Freshness::Stale,
            Known::Nobody if age <= settings.negative_ttl => Freshness::Fresh,
            Known::Profile(_) | Known::Nobody | Known::Dropped => Freshness::Spent,
        }
    }

    /// How long it is kept from entry on.
    fn lifetime(&self, settings: &BrazeSettings) -> Duration {
        let whole = match self.known {
            Known::Profile(_) | Known::Dropped => settings.cache_ttl.max(settings.stale_for),
            Known::Nobody => settings.negative_ttl,
        };
        whole.saturating_sub(self.age_before)
    }

    fn to_cached(&self, phone: &E164) -> CachedProfile {
        let (profile, known) = match &self.known {
            Known::Profile(profile) => (profile.clone(), true),
            Known::Nobody => (Profile::default(), false),
            Known::Dropped => return CachedProfile::dropped(phone.clone()),
        };
        CachedProfile {
            phone: phone.clone(),
            external_id: self.external_id.clone(),
            profile,
            known,
            fetched_at: self.fetched_at,
            changed_at: self.changed_at,
        }
    }
}

struct Lifetime(Arc<ArcSwap<Active>>);

impl Expiry<E164, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &E164, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.lifetime(&self.0.load().settings))
    }

    fn expire_after_update(
        &self,
        _: &E164,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime(&self.0.load().settings))
    }
}

pub(super) struct Profiles {
    cache: Cache<E164, Arc<Entry>>,
    changed: Mutex<HashMap<E164, CachedProfile>>,
    hits: AtomicU64,
    stale: AtomicU64,
    misses: AtomicU64,
}

impl Profiles {
    pub(super) fn new(active: &Arc<ArcSwap<Active>>) -> Self {
        Self {
            cache: Cache::builder()
                .max_capacity(active.load().settings.cache_capacity)
                .expire_after(Lifetime(Arc::clone(active)))
                .build(),
            changed: Mutex::default(),
            hits: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) async fn get(&self, phone: &E164) -> Option<Arc<Entry>> {
        self.cache.get(phone).await
    }

    pub(super) fn count(&self, freshness: Freshness) {
        let counter = match freshness {
            Freshness::Fresh => &self.hits,
            Freshness::Stale => &self.stale,
            Freshness::Spent => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            entries: self.cache.entry_count(),
            hits: self.hits.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// What is remembered of a number, where it may be used.
    pub(super) async fn cached(
        &self,
        phone: &E164,
        now: Instant,
        settings: &BrazeSettings,
    ) -> Option<CachedProfile> {
        let entry = self.get(phone).await?;
        (entry.freshness(now, settings) != Freshness::Spent).then(|| entry.to_cached(phone))
    }

    /// Puts what `make` makes of the present entry, one number at a time; `None` leaves it. Says whether it was put.
    pub(super) async fn put(
        &self,
        phone: &E164,
        make: impl FnOnce(Option<&Entry>) -> Option<Entry>,
    ) -> bool {
        let done = self
            .cache
            .entry_by_ref(phone)
            .and_compute_with(|present| {
                let present = present.map(moka::Entry::into_value);
                let op = make(present.as_deref()).map_or(Op::Nop, |entry| {
                    self.mark_changed(entry.to_cached(phone));
                    Op::Put(Arc::new(entry))
                });
                std::future::ready(op)
            })
            .await;
        #[expect(clippy::cast_precision_loss, reason = "a gauge of entries")]
        metrics::gauge!("switchboard_cache_entries").set(self.cache.entry_count() as f64);
        matches!(done, CompResult::Inserted(_) | CompResult::ReplacedWith(_))
    }

    /// Puts an entry of an earlier run, unless something newer is there.
    pub(super) async fn warm(&self, phone: &E164, entry: Entry) {
        self.cache
            .entry_by_ref(phone)
            .or_insert(Arc::new(entry))
            .await;
    }

    /// The numbers that Braze knows by this id, and when their profiles changed. Looks at everything that is remembered.
    pub(super) fn of_external_id(&self, id: &str) -> Vec<(E164, Option<Timestamp>)> {
        let is_of = |entry: &Entry| entry.external_id.as_deref() == Some(id);
        let found = self.cache.iter().filter(|(_, entry)| is_of(entry));
        found
            .map(|(phone, entry)| (E164::clone(&phone), entry.changed_at))
            .collect()
    }

    pub(super) async fn remove(&self, phone: &E164) {
        self.cache.invalidate(phone).await;
        self.mark_changed(CachedProfile::dropped(phone.clone()));
    }

    /// Forgets everything at once. What an earlier run persisted is overwritten as numbers call again.
    pub(super) fn clear(&self) {
        self.changed().clear();
        self.cache.invalidate_all();
    }

    pub(super) fn drain_changed(&self) -> Vec<CachedProfile> {
        std::mem::take(&mut *self.changed()).into_values().collect()
    }

    fn mark_changed(&self, profile: CachedProfile) {
        let mut changed = self.changed();
        let room = if profile.is_dropped() {
            2 * MAX_CHANGED
        } else {
            MAX_CHANGED
        };
        if changed.len() < room || changed.contains_key(&profile.phone) {
            changed.insert(profile.phone.clone(), profile);
        }
    }

    fn changed(&self) -> MutexGuard<'_, HashMap<E164, CachedProfile>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
