//! Whether two servers have the same secret: a question that only the secret can have made. The answer says no more than whether it was ours, so
//! that it is of no use to anybody else.

use crate::audit::Fingerprint;
use crate::store::KeyRing;

/// How many characters of a question are random.
const RANDOM: usize = 16;

/// Asks other servers whether they are of this installation, and recognises its questions.
#[derive(Clone, Debug)]
pub struct Installation(KeyRing);

impl Installation {
    pub fn new(key_ring: KeyRing) -> Self {
        Self(key_ring)
    }

    /// The address at which the server under this public URL says whether it is of this installation.
    pub fn question(&self, public_url: &str) -> Result<String, getrandom::Error> {
        let random = format!("{:016x}", getrandom::u64()?);
        let hash = self.hash(&random);
        Ok(format!(
            "{public_url}/health?installation={random}{}",
            hash.as_str()
        ))
    }

    /// Whether who asked has the same secret; `None` where nobody asked.
    pub(super) fn is_same(&self, query: Option<&str>) -> Option<bool> {
        let question = query?.strip_prefix("installation=")?;
        let parts = question.split_at_checked(RANDOM);
        Some(parts.is_some_and(|(random, hash)| self.hash(random).as_str() == hash))
    }

    fn hash(&self, random: &str) -> Fingerprint {
        Fingerprint::of(&self.0.secret(), ["installation", random])
    }
}
