//! The profiles last seen survive a restart, so that the cache starts warm.

use std::time::Duration;

use crate::braze::{Braze, CachedProfile};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError, StoredProfile};

/// How often changed profiles are written down; a crash loses at most this much warmth, and nothing else.
const EVERY: Duration = Duration::from_secs(5);

/// The profiles to start with, at most `limit`.
pub async fn stored(store: &Store, limit: u64) -> Vec<CachedProfile> {
    match store
        .profiles(u32::try_from(limit).unwrap_or(u32::MAX))
        .await
    {
        Ok(profiles) => profiles.into_iter().map(cached).collect(),
        Err(error) => {
            tracing::warn!(event = "lookup.cold", error = %error, "the stored profiles cannot be read; the cache starts cold");
            Vec::new()
        }
    }
}

/// Writes changed profiles down until the process is asked to stop.
pub(super) async fn run(lifecycle: Lifecycle, store: Store, braze: Braze) {
    while lifecycle.pause(EVERY).await {
        persist(&store, &braze).await;
    }
}

/// Writes down what has changed since the last time.
pub async fn persist(store: &Store, braze: &Braze) {
    let (dropped, seen): (Vec<_>, Vec<_>) = braze
        .drain_changed()
        .into_iter()
        .partition(CachedProfile::is_dropped);
    for profile in dropped {
        report(store.delete_profile(profile.phone).await);
    }
    if !seen.is_empty() {
        report(
            store
                .save_profiles(seen.into_iter().map(to_store).collect())
                .await,
        );
    }
}

fn report(written: Result<(), StoreError>) {
    if let Err(error) = written {
        tracing::warn!(event = "lookup.not_kept", error = %error, "looked-up profiles are not kept for the next start");
    }
}

fn cached(stored: StoredProfile) -> CachedProfile {
    let known = stored.profile.is_some();
    CachedProfile {
        phone: stored.phone,
        external_id: stored.external_id,
        profile: stored.profile.unwrap_or_default(),
        known,
        fetched_at: stored.fetched_at,
        changed_at: stored.changed_at,
    }
}

fn to_store(cached: CachedProfile) -> StoredProfile {
    StoredProfile {
        phone: cached.phone,
        external_id: cached.external_id,
        profile: cached.known.then_some(cached.profile),
        fetched_at: cached.fetched_at,
        changed_at: cached.changed_at,
    }
}
