//! Signed statements about the log: checkpoints in the form of C2SP's signed notes.
//!
//! A checkpoint says how many records the log had and the root of the tree over them. A *pruning checkpoint* says the same of records that
//! were deleted; its first line is another, so that neither can stand for the other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::Hash;

/// Before the id of the log: the first line of a checkpoint, and the name of its key.
const ORIGIN: &str = "switchboard-audit/";
/// After it, in the first line of a pruning checkpoint.
const PRUNED: &str = "/pruned";
/// Ed25519, among the types of signatures of signed notes.
const ED25519_TYPE: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;
/// What a key signs that names the next one.
const ENDORSEMENT: &str = "switchboard/audit-key/v1";

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteSubject {
    /// The records from the first on.
    Checkpoint,
    Pruning,
}

/// What is signed: how many records, and the root of the tree over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    pub subject: NoteSubject,
    /// How many records, from the first on.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// The key that signs, which belongs to one log.
pub struct LogSigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// A key whose signatures are known by it, and the log it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    log_id: String,
    key: [u8; KEY_BYTES],
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no Ed25519 key: 64 hexadecimal digits or a PKCS #8 key in PEM are")]
pub struct NoKey;

/// Why a note does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// It is not written as a note of this log.
    #[error("it is no note of this log")]
    Malformed,
    /// It was signed by another key.
    #[error("it is not signed by the key that is trusted")]
    OtherKey,
    /// It names the key, and the signature is not that key's.
    #[error("its signature is wrong")]
    Signature,
}

impl LogSigningKey {
    /// The key that a text holds, for the log of that id: a seed in hexadecimal, or PKCS #8 in PEM.
    pub fn read(log_id: &str, text: &str) -> Result<Self, NoKey> {
        let text = text.trim();
        let pair = if let Some(body) = pem_body(text) {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&body).map_err(|_| NoKey)?
        } else {
            let seed = hex::decode(text).map_err(|_| NoKey)?;
            Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NoKey)?
        };
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoKey)?;
        let public = PublicKey {
            log_id: log_id.to_owned(),
            key,
        };
        Ok(Self { pair, public })
    }

    /// The key by which its signatures are known.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn sign(&self, statement: &Statement) -> String {
        let text = self.public.text(statement);
        let mut signed = self.public.id().to_vec();
        signed.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!(
            "{text}\n\u{2014} {} {}\n",
            self.public.name(),
            STANDARD.encode(signed)
        )
    }

    /// Says that `next` signs from now on.
    pub fn endorse(&self, next: &PublicKey) -> String {
        STANDARD.encode(self.pair.sign(endorsement(next).as_bytes()))
    }
}

impl std::fmt::Debug for LogSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogSigningKey").field(&self.public).finish()
    }
}

impl PublicKey {
    /// The log it belongs to.
    pub fn log_id(&self) -> &str {
        &self.log_id
    }

    fn name(&self) -> String {
        format!("{ORIGIN}{}", self.log_id)
    }

    /// The first bytes of the SHA-256 over its name, a line feed, its type and itself.
    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let mut hasher = Sha256::new();
        hasher.update(self.name());
        hasher.update([b'\n', ED25519_TYPE]);
        hasher.update(self.key);
        let digest: Hash = hasher.finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// As verifiers of signed notes take it: name, id and key, parted by `+`.
    pub fn to_line(&self) -> String {
        let mut typed = vec![ED25519_TYPE];
        typed.extend_from_slice(&self.key);
        let id = hex::encode(self.id());
        format!("{}+{id}+{}", self.name(), STANDARD.encode(typed))
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let mut parts = line.trim().splitn(3, '+');
        let log_id = parts.next()?.strip_prefix(ORIGIN)?.to_owned();
        let id = hex::decode(parts.next()?).ok()?;
        let typed = STANDARD.decode(parts.next()?).ok()?;
        let (kind, key) = typed.split_first()?;
        let found = Self {
            log_id,
            key: key.try_into().ok()?,
        };
        (*kind == ED25519_TYPE && id == found.id()).then_some(found)
    }

    fn text(&self, statement: &Statement) -> String {
        let Statement {
            subject,
            size,
            root,
        } = statement;
        let suffix = match subject {
            NoteSubject::Checkpoint => "",
            NoteSubject::Pruning => PRUNED,
        };
        format!(
            "{}{suffix}\n{size}\n{}\n",
            self.name(),
            STANDARD.encode(root)
        )
    }

    /// What a note says, if this key signed it, byte for byte as it would sign it.
    pub fn open(&self, note: &str) -> Result<Statement, BadNote> {
        let (text, signatures) = note.split_once("\n\n").ok_or(BadNote::Malformed)?;
        let statement = self.read(text).ok_or(BadNote::Malformed)?;
        let line = signatures.strip_suffix('\n').ok_or(BadNote::Malformed)?;
        let prefix = format!("\u{2014} {} ", self.name());
        let encoded = line.strip_prefix(&prefix).ok_or(BadNote::Malformed)?;
        let signed = STANDARD.decode(encoded).map_err(|_| BadNote::Malformed)?;
        let (id, signature) = signed
            .split_first_chunk::<KEY_ID_BYTES>()
            .ok_or(BadNote::Malformed)?;
        if *id != self.id() {
            return Err(BadNote::OtherKey);
        }
        let text = self.text(&statement);
        UnparsedPublicKey::new(&ED25519, self.key)
            .verify(text.as_bytes(), signature)
            .map_err(|_| BadNote::Signature)?;
        Ok(statement)
    }

    /// Reads the three lines that are signed; `None` unless they are as this log's notes are written.
    fn read(&self, text: &str) -> Option<Statement> {
        let mut lines = text.split('\n');
        let name = lines.next()?.strip_prefix(&self.name())?;
        let subject = match name {
            "" => NoteSubject::Checkpoint,
            PRUNED => NoteSubject::Pruning,
            _ => return None,
        };
        let size = lines.next()?;
        let root = lines.next()?;
        let statement = Statement {
            subject,
            size: size.parse().ok()?,
            root: STANDARD.decode(root).ok()?.try_into().ok()?,
        };
        // Written in the one way there is: no sign, no leading zero, nothing after it.
        (self.text(&statement).strip_suffix('\n') == Some(text)).then_some(statement)
    }

    /// Whether this key said that `next` signs after it.
    pub fn has_endorsed(&self, next: &Self, endorsement_of_next: &str) -> bool {
        STANDARD.decode(endorsement_of_next).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, self.key)
                .verify(endorsement(next).as_bytes(), &signature)
                .is_ok()
        })
    }
}

/// The signature of a note alone, in base64: key id and Ed25519 signature.
pub fn signature_of(note: &str) -> Option<&str> {
    note.trim_end().rsplit(' ').next()
}

fn endorsement(next: &PublicKey) -> String {
    format!("{ENDORSEMENT}\n{}\n", next.to_line())
}

fn pem_body(text: &str) -> Option<Vec<u8>> {
    let body = text
        .strip_prefix("-----BEGIN PRIVATE KEY-----")?
        .strip_suffix("-----END PRIVATE KEY-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "0123456789abcdef0123456789abcdef";

    fn key(seed: u8) -> LogSigningKey {
        LogSigningKey::read(LOG, &hex::encode([seed; 32])).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            subject: NoteSubject::Checkpoint,
            size: 12_345,
            root: [7; 32],
        }
    }

    /// The key and signature of RFC 8032, section 7.1, test 1: the primitive is the right one.
    #[test]
    fn the_signature_is_ed25519() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let key = LogSigningKey::read(LOG, seed).unwrap();
        assert_eq!(
            hex::encode(key.public.key),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert!(hex::encode(key.pair.sign(b"")).starts_with("e5564300c360ac729086e2cc806e828a"));
    }

    /// The example of the specification of signed notes: its key line has the id that its name and key give.
    #[test]
    fn a_note_reads_back_and_is_written_in_one_way_only() {
        let key = key(1);
        let note = key.sign(&statement());
        assert!(note.starts_with(&format!("switchboard-audit/{LOG}\n12345\nBwcH")));
        assert_eq!(key.public().open(&note), Ok(statement()));
        let pruning = Statement {
            subject: NoteSubject::Pruning,
            ..statement()
        };
        assert_eq!(key.public().open(&key.sign(&pruning)), Ok(pruning));
        for (at, _) in note.char_indices() {
            for change in [b'0', b'A', b'\n', b' '] {
                let mut bytes = note.clone().into_bytes();
                if bytes[at] == change {
                    continue;
                }
                bytes[at] = change;
                let text = String::from_utf8_lossy(&bytes);
                assert!(key.public().open(&text).is_err(), "{at}: {text}");
            }
        }
        for other in [
            format!("{note}\n"),
            format!(" {note}"),
            note.replace("12345", "012345"),
            note.replace("12345", "+12345"),
            format!("{note}{}", note.lines().last().unwrap()),
        ] {
            assert!(key.public().open(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn another_key_and_another_log_are_told_apart() {
        let note = key(2).sign(&statement());
        assert_eq!(key(1).public().open(&note), Err(BadNote::OtherKey));
        let other_log = LogSigningKey::read("ffff", &hex::encode([2; 32])).unwrap();
        assert_eq!(other_log.public().open(&note), Err(BadNote::Malformed));
    }

    #[test]
    fn a_public_key_line_reads_back() {
        let public = key(3).public().clone();
        assert_eq!(
            PublicKey::from_line(&public.to_line()),
            Some(public.clone())
        );
        assert_eq!(
            PublicKey::from_line(&public.to_line().replace('+', "-")),
            None
        );
        assert_eq!(PublicKey::from_line(""), None);
    }

    #[test]
    fn only_the_old_key_endorses_the_next() {
        let (old, next, other) = (key(1), key(2), key(3));
        let said = old.endorse(next.public());
        assert!(old.public().has_endorsed(next.public(), &said));
        assert!(!old.public().has_endorsed(other.public(), &said));
        assert!(!other.public().has_endorsed(next.public(), &said));
        assert!(!old.public().has_endorsed(next.public(), ""));
    }

    #[test]
    fn a_key_in_pem_is_read_and_rubbish_is_not() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let read = |text: &str| LogSigningKey::read(LOG, text).map(|key| key.public.to_line());
        assert_eq!(read(pem), read(seed));
        for text in ["", "00", &"0".repeat(63), "-----BEGIN PRIVATE KEY-----"] {
            assert_eq!(read(text), Err(NoKey), "{text:?}");
        }
    }
}
