//! Whether a webhook comes from Twilio: the check of `X-Twilio-Signature`.
//!
//! The signature is an HMAC over the URL as it is configured at Twilio, followed by every field of the body, sorted. Sources: Twilio's page
//! on webhook security and the behaviour of its seven SDKs, whose test vectors are in `tests/data`. Where they disagree, everything that
//! any of them accepts is a candidate: a further candidate is safe, because it still needs a valid HMAC under a secret key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::form::Form;
use super::signed_url::{SignedBase, split_query};

/// What a [`Verifier`] is made of.
pub struct VerifierSettings {
    /// The public URL exactly as typed at Twilio, with its path prefix.
    pub public_url: String,
    /// The `AuthToken`s that are valid now, the newest first.
    pub auth_tokens: Vec<Box<[u8]>>,
    /// The `SharedKey`s that Twilio may choose instead.
    pub shared_keys: Vec<SharedKey>,
}

/// A key made for webhooks only. It signs with HMAC-SHA256.
pub struct SharedKey {
    /// Its name in the settings header, `webhooks_sharedkey_…`.
    pub id: String,
    pub secret: Box<[u8]>,
}

impl fmt::Debug for VerifierSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierSettings")
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

/// Why a [`Verifier`] cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSettings {
    /// There is no scheme or no host in the public URL.
    #[error("the public URL needs a scheme and a host, like https://calls.example.com")]
    PublicUrl,
    /// Anybody can sign with an empty key.
    #[error("an AuthToken or SharedKey is empty")]
    EmptyKey,
}

/// What the check needs of a request.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The raw request target: path and query as received.
    pub path_and_query: &'a str,
    pub signature: Option<&'a [u8]>,
    pub settings: Option<&'a [u8]>,
    pub content_type: Option<&'a str>,
    /// The raw body; empty for a GET.
    pub body: &'a [u8],
    /// The fields of the body. Empty for a GET, whose fields are part of the URL.
    pub form: &'a Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyUsed {
    /// The `AuthToken` at this place of the list, from 0. Above 0, Twilio still signs with an old token.
    AuthToken(usize),
    /// The `SharedKey` of this name.
    SharedKey(String),
}

/// Why a request is not believed. The answer is the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SignatureError {
    /// No signature header, or an empty one.
    #[error("there is no X-Twilio-Signature header")]
    Missing,
    /// The header cannot be a signature.
    #[error("X-Twilio-Signature is not the base64 of a signature")]
    Malformed,
    /// The settings header cannot be read.
    #[error("X-Twilio-Webhooks-Signature-SignatureSettings cannot be read")]
    SettingsMalformed,
    /// The settings header names a key that is not configured.
    #[error("the SharedKey that the settings header names is not configured")]
    UnknownKey,
    /// The settings header names an algorithm that does not exist, or not the one that the key is configured for.
    #[error("the algorithm of the settings header is not the one configured for its key")]
    Algorithm,
    /// A body whose bytes the signature does not cover.
    #[error("the body is neither a form nor JSON: the signature does not cover it")]
    UncoveredBody,
    /// JSON without the hash that ties its body to the signed URL.
    #[error("a JSON body needs bodySHA256 in the query")]
    BodyHashMissing,
    /// The body is not the one that was signed.
    #[error("the JSON body does not have the hash that its URL says")]
    BodyHash,
    #[error("no AuthToken is configured")]
    NoKey,
    /// No key and no reading of the URL gives this signature.
    #[error("the signature matches neither a public URL nor its variants under any configured key")]
    Mismatch,
}

/// Checks signatures. Holds the keys, and forgets them when dropped.
#[derive(Debug)]
pub struct Verifier {
    /// Each place under which Twilio may ask, the usual one first.
    pub(super) urls: Vec<SignedBase>,
    pub(super) auth_tokens: Vec<SignatureKey>,
    pub(super) shared_keys: Vec<(String, SignatureKey)>,
}

impl Verifier {
    /// Takes the settings, and refuses those under which the check would be void.
    pub fn new(settings: VerifierSettings) -> Result<Self, UnusableSettings> {
        let url = SignedBase::parse(&settings.public_url).ok_or(UnusableSettings::PublicUrl)?;
        let auth_tokens = settings
            .auth_tokens
            .into_iter()
            .map(SignatureKey::new)
            .collect::<Result<_, _>>()?;
        let shared_keys = settings
            .shared_keys
            .into_iter()
            .map(|shared| Ok((shared.id, SignatureKey::new(shared.secret)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            urls: vec![url],
            auth_tokens,
            shared_keys,
        })
    }

    /// Takes signatures over further public URLs too, each exactly as typed at Twilio.
    pub fn also_public<'a>(
        mut self,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, UnusableSettings> {
        for url in urls {
            let base = SignedBase::parse(url);
            self.urls.push(base.ok_or(UnusableSettings::PublicUrl)?);
        }
        Ok(self)
    }

    /// Whether Twilio signed this request, and with which key.
    pub fn verify(&self, request: &SignedRequest<'_>) -> Result<KeyUsed, SignatureError> {
        let signature = match request.signature {
            None | Some([]) => return Err(SignatureError::Missing),
            Some(text) => STANDARD
                .decode(text)
                .map_err(|_| SignatureError::Malformed)?,
        };
        let suffix = signed_suffix(request)?;
        let matches = |key: &SignatureKey, algorithm| {
            let bases = self.urls.iter();
            let mut urls = bases.flat_map(|base| base.candidates(request.path_and_query));
            urls.any(|url| key.signed(algorithm, &url, &suffix, &signature))
        };
        let SignatureSettings { key, algorithm } = SignatureSettings::parse(request.settings)?;
        let Some(id) = key else {
            if algorithm != Algorithm::Sha1 {
                return Err(SignatureError::Algorithm);
            }
            if self.auth_tokens.is_empty() {
                return Err(SignatureError::NoKey);
            }
            let mut tokens = self.auth_tokens.iter();
            return tokens
                .position(|token| matches(token, algorithm))
                .map(KeyUsed::AuthToken)
                .ok_or(SignatureError::Mismatch);
        };
        let mut shared = self.shared_keys.iter();
        let (id, key) = shared
            .find(|(known, _)| known == id)
            .ok_or(SignatureError::UnknownKey)?;
        if algorithm != Algorithm::Sha256 {
            return Err(SignatureError::Algorithm);
        }
        matches(key, algorithm)
            .then(|| KeyUsed::SharedKey(id.clone()))
            .ok_or(SignatureError::Mismatch)
    }
}

/// What follows the URL in the signed string: the sorted fields of a form; nothing for JSON, whose hash is in the URL.
fn signed_suffix(request: &SignedRequest<'_>) -> Result<Vec<u8>, SignatureError> {
    match BodyKind::of(request.content_type, request.body) {
        BodyKind::Form => Ok(sorted_fields(request.form.fields())),
        BodyKind::Json => {
            let (_, query) = split_query(request.path_and_query);
            let query = Form::parse(query.trim_start_matches('?').as_bytes());
            let hash = query
                .text("bodySHA256")
                .ok_or(SignatureError::BodyHashMissing)?;
            let hash = hex::decode(&*hash).map_err(|_| SignatureError::BodyHash)?;
            if bool::from(Sha256::digest(request.body).as_slice().ct_eq(&hash)) {
                Ok(Vec::new())
            } else {
                Err(SignatureError::BodyHash)
            }
        }
        BodyKind::Other => Err(SignatureError::UncoveredBody),
    }
}

/// How the signature covers a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// Field by field. Also no body at all, and a body of no declared type.
    Form,
    /// By a hash in the query.
    Json,
    Other,
}

impl BodyKind {
    pub(super) fn of(content_type: Option<&str>, body: &[u8]) -> Self {
        let media_type = content_type
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim();
        if media_type.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if media_type.is_empty()
            || body.is_empty()
            || media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            Self::Form
        } else {
            Self::Other
        }
    }
}

/// Name and value of every field, by name in byte order. The values of one name are sorted too, and each of them counts once.
pub(super) fn sorted_fields<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_unstable();
    fields.dedup();
    let signed = fields.into_iter().flat_map(|(name, value)| [name, value]);
    signed.collect::<Vec<_>>().concat()
}

/// The hash function of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
}

/// The settings header: what chooses among the configured keys. It is not signed and decides nothing else.
#[derive(Debug, PartialEq, Eq)]
struct SignatureSettings<'a> {
    key: Option<&'a str>,
    algorithm: Algorithm,
}

impl<'a> SignatureSettings<'a> {
    fn parse(header: Option<&'a [u8]>) -> Result<Self, SignatureError> {
        let header = str::from_utf8(header.unwrap_or_default())
            .map_err(|_| SignatureError::SettingsMalformed)?;
        let (mut key, mut algorithm) = (None, None);
        for pair in header.split(',') {
            let Some((name, value)) = pair.split_once('=') else {
                if pair.trim().is_empty() {
                    continue;
                }
                return Err(SignatureError::SettingsMalformed);
            };
            let slot = match name.trim() {
                "key" => &mut key,
                "algorithm" => &mut algorithm,
                _ => continue,
            };
            if slot.replace(value.trim()).is_some() {
                return Err(SignatureError::SettingsMalformed);
            }
        }
        let algorithm = match algorithm.filter(|name| !name.is_empty()) {
            None => Algorithm::Sha1,
            Some(name) if name.eq_ignore_ascii_case("HMAC_SHA1") => Algorithm::Sha1,
            Some(name) if name.eq_ignore_ascii_case("HMAC_SHA256") => Algorithm::Sha256,
            Some(_) => return Err(SignatureError::Algorithm),
        };
        Ok(Self {
            key: key.filter(|id| !id.is_empty()),
            algorithm,
        })
    }
}

/// A secret that signs; wiped when dropped, never shown.
pub(super) struct SignatureKey(Zeroizing<Box<[u8]>>);

impl SignatureKey {
    fn new(secret: Box<[u8]>) -> Result<Self, UnusableSettings> {
        if secret.is_empty() {
            return Err(UnusableSettings::EmptyKey);
        }
        Ok(Self(Zeroizing::new(secret)))
    }

    /// The key without white space at its ends, where there is some: the usual accident of a secret kept in a file.
    pub(super) fn trimmed(&self) -> Option<Self> {
        let trimmed = self.0.trim_ascii();
        (trimmed.len() < self.0.len())
            .then(|| Self::new(trimmed.into()).ok())
            .flatten()
    }

    /// Whether `signature` is this key's over the URL and what follows it. Takes the same time wherever it differs.
    pub(super) fn signed(
        &self,
        algorithm: Algorithm,
        url: &str,
        suffix: &[u8],
        signature: &[u8],
    ) -> bool {
        match algorithm {
            Algorithm::Sha1 => self.signed_with::<Hmac<Sha1>>(url, suffix, signature),
            Algorithm::Sha256 => self.signed_with::<Hmac<Sha256>>(url, suffix, signature),
        }
    }

    fn signed_with<M: Mac + KeyInit>(&self, url: &str, suffix: &[u8], signature: &[u8]) -> bool {
        // An HMAC takes a key of any length, so this never fails; if it did, nothing would match.
        let Ok(mut mac) = <M as KeyInit>::new_from_slice(&self.0) else {
            return false;
        };
        mac.update(url.as_bytes());
        mac.update(suffix);
        mac.finalize()
            .into_bytes()
            .as_slice()
            .ct_eq(signature)
            .into()
    }
}

impl fmt::Debug for SignatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignatureKey(…)")
    }
}
