//! The signature check against Twilio's own vectors, against field reports, and against a second implementation.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde::Deserialize;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use switchboard::twilio::{
    Deviation, Form, Hosts, KeyUsed, SharedKey, SignatureError, SignedRequest, UnusableSettings,
    Verifier, VerifierSettings,
};

const FORM: &str = "application/x-www-form-urlencoded; charset=UTF-8";

/// A request on its way to the check.
#[derive(Clone, Debug)]
struct Request {
    target: String,
    signature: Option<String>,
    settings: Option<String>,
    content_type: Option<&'static str>,
    body: Vec<u8>,
}

impl Request {
    fn form(target: &str, body: &str, signature: &str) -> Self {
        Self {
            target: target.to_owned(),
            signature: Some(signature.to_owned()),
            settings: None,
            content_type: Some(FORM),
            body: body.as_bytes().to_vec(),
        }
    }

    fn json(target: &str, body: &str, signature: &str) -> Self {
        Self {
            content_type: Some("application/json"),
            ..Self::form(target, body, signature)
        }
    }

    fn with<R>(&self, check: impl FnOnce(&SignedRequest<'_>) -> R) -> R {
        check(&SignedRequest {
            path_and_query: &self.target,
            signature: self.signature.as_deref().map(str::as_bytes),
            settings: self.settings.as_deref().map(str::as_bytes),
            content_type: self.content_type,
            body: &self.body,
            form: &Form::parse(&self.body),
        })
    }

    fn check(&self, verifier: &Verifier) -> Result<KeyUsed, SignatureError> {
        self.with(|request| verifier.verify(request))
    }
}

fn verifier(public_url: &str, tokens: &[&str]) -> Verifier {
    keys(public_url, tokens, &[])
}

fn keys(public_url: &str, tokens: &[&str], shared: &[(&str, &str)]) -> Verifier {
    let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    Verifier::new(VerifierSettings {
        public_url: public_url.to_owned(),
        auth_tokens: tokens.iter().map(|token| bytes(token)).collect(),
        shared_keys: shared
            .iter()
            .map(|(id, secret)| SharedKey {
                id: (*id).to_owned(),
                secret: bytes(secret),
            })
            .collect(),
    })
    .unwrap()
}

const OK: Result<KeyUsed, SignatureError> = Ok(KeyUsed::AuthToken(0));

// ── Twilio's vectors ──────────────────────────────────────────────────────────────────────

#[derive(Deserialize)]
struct Vector {
    id: String,
    token: String,
    request_url: String,
    params: Vec<(String, String)>,
    json_body: Option<String>,
    raw_body: Option<String>,
    signature: String,
    expect: String,
}

/// They hash the userinfo of the URL. Twilio drops it, and a server never sees it, so neither is it part of a URL here.
const SDK_ONLY: [&str; 7] = ["V27", "V28", "V29", "V30", "V34", "V35", "V36"];

fn vectors() -> Vec<Vector> {
    include_str!("../data/twilio_signature_vectors.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn vector(id: &str) -> (Verifier, Request) {
    vectors().iter().find(|v| v.id == id).unwrap().request()
}

impl Vector {
    /// The configured URL and the request that a server would see.
    fn request(&self) -> (Verifier, Request) {
        let host = self.request_url.find("://").unwrap() + 3;
        let path = host + self.request_url[host..].find('/').unwrap();
        let (public_url, target) = self.request_url.split_at(path);
        let request = match (&self.json_body, &self.raw_body) {
            (Some(json), _) => Request::json(target, json, &self.signature),
            (None, Some(raw)) => Request::form(target, raw, &self.signature),
            (None, None) => Request::form(target, &encode(&self.params), &self.signature),
        };
        (verifier(public_url, &[&self.token]), request)
    }
}

fn encode(fields: &[(String, String)]) -> String {
    let escape = |text: &str| {
        let escaped: Vec<String> = text.bytes().map(|b| format!("%{b:02X}")).collect();
        escaped.concat()
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    pairs.join("&")
}

#[test]
fn every_vector_of_the_sdks_is_decided_as_they_do() {
    let mut checked = 0;
    for vector in vectors() {
        if SDK_ONLY.contains(&vector.id.as_str()) {
            continue;
        }
        let (verifier, request) = vector.request();
        let result = request.check(&verifier);
        match vector.expect.as_str() {
            "accept" => assert_eq!(result, OK, "{}", vector.id),
            _ => assert!(result.is_err(), "{} is to be rejected", vector.id),
        }
        checked += 1;
    }
    assert_eq!(checked, 46 - SDK_ONLY.len());
}

#[test]
fn what_the_sdks_reject_is_rejected() {
    let (verifier, good) = vector("V01");
    let signed = |signature: Option<&str>| Request {
        signature: signature.map(str::to_owned),
        ..good.clone()
    };
    let cut = good.signature.clone().unwrap();
    let cases = [
        (None, SignatureError::Missing),
        (Some(""), SignatureError::Missing),
        (Some("WRONG_SIGNATURE"), SignatureError::Malformed),
        (Some(&cut[..27]), SignatureError::Malformed),
        (
            Some(" RSOYDt4T1cUTdK1PDd93/VVr8B8="),
            SignatureError::Malformed,
        ),
        (
            Some("RSOYDt4T1cUTdK1PDd93_VVr8B8="),
            SignatureError::Malformed,
        ),
        (
            Some("NOTRSOYDt4T1cUTdK1PDd93/VVr8B8="),
            SignatureError::Malformed,
        ),
        (
            Some("RSOYDt4T1cUTdK1PDd93/VVr8B4="),
            SignatureError::Mismatch,
        ),
        (Some("RSOYDt4T1cUTdK1PDd93/VVr"), SignatureError::Mismatch),
        (Some("AAAA"), SignatureError::Mismatch),
    ];
    for (signature, expected) in cases {
        assert_eq!(
            signed(signature).check(&verifier),
            Err(expected),
            "{signature:?}"
        );
    }
    let more = Request {
        target: format!("{}&somethingUnexpected=true", good.target),
        ..good.clone()
    };
    assert_eq!(more.check(&verifier), Err(SignatureError::Mismatch));
    let json = Request {
        content_type: Some("application/json"),
        ..good.clone()
    };
    assert_eq!(json.check(&verifier), Err(SignatureError::BodyHashMissing));
    let text = Request {
        content_type: Some("text/plain"),
        ..good.clone()
    };
    assert_eq!(text.check(&verifier), Err(SignatureError::UncoveredBody));
    for id in ["V31", "V32", "V33"] {
        let (other_case, request) = vector(id);
        let request = Request {
            signature: good.signature.clone(),
            ..request
        };
        assert_eq!(
            request.check(&other_case),
            Err(SignatureError::Mismatch),
            "{id}"
        );
    }
    let (verifier, sorted) = vector("V09");
    let wrongly_sorted = Request {
        signature: Some("95+Bu0JVPi0r/SsESZCVf0dWAjw=".to_owned()),
        ..sorted
    };
    assert_eq!(
        wrongly_sorted.check(&verifier),
        Err(SignatureError::Mismatch)
    );
}

#[test]
fn a_json_body_is_tied_to_its_url() {
    let (verifier, good) = vector("V24");
    assert_eq!(good.check(&verifier), OK);
    let tampered = Request {
        body: b"{\"property\": \"other\", \"boolean\": true}".to_vec(),
        ..good.clone()
    };
    assert_eq!(tampered.check(&verifier), Err(SignatureError::BodyHash));
    for hash in [
        "",
        "0a",
        "zz",
        "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e662",
    ] {
        let target = format!("/myapp.php?bodySHA256={hash}");
        let cut = Request {
            target,
            ..good.clone()
        };
        assert_eq!(
            cut.check(&verifier),
            Err(SignatureError::BodyHash),
            "{hash}"
        );
    }
    let no_query = Request {
        target: "/myapp.php".to_owned(),
        ..good
    };
    assert_eq!(
        no_query.check(&verifier),
        Err(SignatureError::BodyHashMissing)
    );
}

// ── What goes wrong in the field ──────────────────────────────────────────────────────────

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PUBLIC: &str = "https://calls.example.com";
const BODY: &str = "CallSid=CA1&From=%2B14155550100&ToZip=";
const FIELDS: &str = "CallSidCA1From+14155550100ToZip";

/// Signs the way the documentation says: one string, one key.
fn sign(token: &str, signed: &str) -> String {
    STANDARD.encode(reference::hmac::<Sha1>(token.as_bytes(), signed.as_bytes()))
}

fn sign_256(key: &str, signed: &str) -> String {
    STANDARD.encode(reference::hmac::<Sha256>(key.as_bytes(), signed.as_bytes()))
}

/// Configured, target as received, URL as signed, accepted.
const URLS: &[(&str, &str, &str, bool)] = &[
    (PUBLIC, "/w", "https://calls.example.com/w", true),
    (PUBLIC, "/w", "http://calls.example.com/w", false),
    (
        "https://calls.example.com:8443",
        "/w",
        "https://calls.example.com/w",
        true,
    ),
    (
        "https://calls.example.com:81",
        "/w",
        "https://calls.example.com:81/w",
        true,
    ),
    (
        "https://calls.example.com:81",
        "/w",
        "https://calls.example.com:443/w",
        false,
    ),
    (
        PUBLIC,
        "/w?b=1&a=2+3",
        "https://calls.example.com/w?b=1&a=2+3",
        true,
    ),
    (
        PUBLIC,
        "/w?b=1&a=2+3",
        "https://calls.example.com/w?a=2+3&b=1",
        false,
    ),
    (
        PUBLIC,
        "/w?b=1&a=2+3",
        "https://calls.example.com/w?b=1&a=2%203",
        false,
    ),
    // Our own queries, in either order.
    (
        PUBLIC,
        "/w?dialer=x&step=1",
        "https://calls.example.com/w?step=1&dialer=x",
        true,
    ),
    (
        PUBLIC,
        "/w?step=1&dialer=x",
        "https://calls.example.com/w?dialer=x&step=1",
        true,
    ),
    (
        PUBLIC,
        "/w?step=1&dialer=x",
        "https://calls.example.com/w?dialer=y&step=1",
        false,
    ),
    (
        PUBLIC,
        "/w?step=1&dialer=x&step=1",
        "https://calls.example.com/w?dialer=x&step=1&step=1",
        false,
    ),
    (
        PUBLIC,
        "/w?From=%2B1",
        "https://calls.example.com/w?From=%2B1",
        true,
    ),
    (
        PUBLIC,
        "/w%3Fa=1",
        "https://calls.example.com/w%3Fa=1",
        true,
    ),
    (
        PUBLIC,
        "/w?From=sip%3Aa%40b",
        "https://calls.example.com/w?From=sip:a@b",
        true,
    ),
    (
        PUBLIC,
        "/w?S=Sull%27Adda+x",
        "https://calls.example.com/w?S=Sull'Adda+x",
        true,
    ),
    (
        PUBLIC,
        "/w?S=Sull'Adda+x",
        "https://calls.example.com/w?S=Sull%27Adda+x",
        true,
    ),
    (PUBLIC, "/w/", "https://calls.example.com/w", false),
    (PUBLIC, "/w", "https://calls.example.com/w/", false),
    (
        PUBLIC,
        "//w/../x",
        "https://calls.example.com//w/../x",
        true,
    ),
    (PUBLIC, "/w?a=1", "https://calls.example.com/w", false),
    (
        "https://calls.example.com/sb",
        "/w?a=1",
        "https://calls.example.com/sb/w?a=1",
        true,
    ),
    (
        "https://calls.example.com/sb",
        "/sb/w?a=1",
        "https://calls.example.com/sb/w?a=1",
        true,
    ),
    (
        "https://calls.example.com/sb",
        "/w",
        "https://calls.example.com/w",
        false,
    ),
    (
        "https://u:p@calls.example.com/#rc=2",
        "/w",
        "https://calls.example.com/w",
        true,
    ),
    (
        "https://[2001:db8::1]:8443",
        "/w",
        "https://[2001:db8::1]/w",
        true,
    ),
];

#[test]
fn the_url_is_the_configured_one_whatever_the_proxy_does() {
    for (public_url, target, signed, accepted) in URLS {
        let signature = sign(TOKEN, &format!("{signed}{FIELDS}"));
        let request = Request::form(target, BODY, &signature);
        let result = request.check(&verifier(public_url, &[TOKEN]));
        assert_eq!(
            result.is_ok(),
            *accepted,
            "{public_url} {target} {signed}: {result:?}"
        );
    }
}

#[test]
fn every_field_counts_as_it_was_sent() {
    // body, what follows the URL in the signed string
    let cases = [
        (
            "AddOns=%7B%22status%22%3A%22successful%22%2C%22results%22%3A%7B%7D%7D",
            r#"AddOns{"status":"successful","results":{}}"#,
        ),
        ("New=%20edge%20&CallSid=CA1", "CallSidCA1New edge "),
        (
            "Digits=5678&Digits=1234&Digits=1234",
            "Digits1234Digits5678",
        ),
        (
            "ReasonConferenceEnded=test&Reason=Participant",
            "ReasonParticipantReasonConferenceEndedtest",
        ),
        ("CallToken=%257B%2522a%2522", "CallToken%7B%22a%22"),
        ("a=%zz&b", "a%zzb"),
        ("", ""),
    ];
    let verifier = verifier(PUBLIC, &[TOKEN]);
    for (body, fields) in cases {
        let signature = sign(TOKEN, &format!("{PUBLIC}/w{fields}"));
        assert_eq!(
            Request::form("/w", body, &signature).check(&verifier),
            OK,
            "{body}"
        );
        let more = format!("{body}&Extra=1");
        let result = Request::form("/w", &more, &signature).check(&verifier);
        assert_eq!(result, Err(SignatureError::Mismatch), "{more}");
    }
    let signature = sign(TOKEN, &format!("{PUBLIC}/w{FIELDS}"));
    let fewer = Request::form("/w", "CallSid=CA1&From=%2B14155550100", &signature);
    assert_eq!(fewer.check(&verifier), Err(SignatureError::Mismatch));
    let empty = sign(TOKEN, &format!("{PUBLIC}/w"));
    let nothing = Request {
        content_type: Some("text/plain"),
        ..Request::form("/w", "", &empty)
    };
    assert_eq!(nothing.check(&verifier), OK, "there is no byte to cover");
    let something = Request {
        content_type: Some("text/plain"),
        ..Request::form("/w", "a", &empty)
    };
    assert_eq!(
        something.check(&verifier),
        Err(SignatureError::UncoveredBody)
    );
    let hidden = Request {
        content_type: None,
        ..Request::form("/w", BODY, &signature)
    };
    assert_eq!(
        hidden.check(&verifier),
        OK,
        "a body of no declared type is covered as a form"
    );
}

#[test]
fn a_rotated_token_is_accepted_and_told_apart() {
    let verifier = verifier(PUBLIC, &["new", "old"]);
    let signed = format!("{PUBLIC}/w{FIELDS}");
    for (token, expected) in [
        ("new", Ok(KeyUsed::AuthToken(0))),
        ("old", Ok(KeyUsed::AuthToken(1))),
        ("older", Err(SignatureError::Mismatch)),
    ] {
        let request = Request::form("/w", BODY, &sign(token, &signed));
        assert_eq!(request.check(&verifier), expected, "{token}");
    }
}

#[test]
fn the_settings_header_chooses_among_configured_keys_and_nothing_else() {
    const ID: &str = "webhooks_sharedkey_1";
    let verifier = keys(
        PUBLIC,
        &[TOKEN],
        &[(ID, "shared"), ("webhooks_sharedkey_2", "second")],
    );
    let signed = format!("{PUBLIC}/w{FIELDS}");
    let (sha1, sha256) = (sign(TOKEN, &signed), sign_256("shared", &signed));
    let shared = || Ok(KeyUsed::SharedKey(ID.to_owned()));
    let mismatch = || Err(SignatureError::Mismatch);
    let algorithm = || Err(SignatureError::Algorithm);
    let malformed = || Err(SignatureError::SettingsMalformed);
    let cases = [
        (None, &sha1, OK),
        (Some(""), &sha1, OK),
        (Some(" , "), &sha1, OK),
        (Some("algorithm=HMAC_SHA1"), &sha1, OK),
        (Some("algorithm="), &sha1, OK),
        (Some("future=1"), &sha1, OK),
        (None, &sha256, mismatch()),
        (Some("algorithm=HMAC_SHA256"), &sha1, algorithm()),
        (Some("algorithm=HMAC_SHA256"), &sha256, algorithm()),
        (
            Some("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"),
            &sha256,
            shared(),
        ),
        (
            Some(" algorithm = hmac_sha256 , key = webhooks_sharedkey_1 "),
            &sha256,
            shared(),
        ),
        (
            Some("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"),
            &sha1,
            mismatch(),
        ),
        (
            Some("key=webhooks_sharedkey_2,algorithm=HMAC_SHA256"),
            &sha256,
            mismatch(),
        ),
        (
            Some("key=webhooks_sharedkey_3,algorithm=HMAC_SHA256"),
            &sha256,
            Err(SignatureError::UnknownKey),
        ),
        (
            Some("key=webhooks_sharedkey_3"),
            &sha1,
            Err(SignatureError::UnknownKey),
        ),
        (
            Some("key=webhooks_sharedkey_1,algorithm=HMAC_MD5"),
            &sha256,
            algorithm(),
        ),
        (Some("algorithm=none"), &sha1, algorithm()),
        (Some("key=webhooks_sharedkey_1"), &sha256, algorithm()),
        (
            Some("key=webhooks_sharedkey_1,algorithm=HMAC_SHA1"),
            &sha1,
            algorithm(),
        ),
        (
            Some("key=webhooks_sharedkey_1,key=webhooks_sharedkey_2,algorithm=HMAC_SHA256"),
            &sha256,
            malformed(),
        ),
        (Some("webhooks_sharedkey_1"), &sha1, malformed()),
    ];
    for (settings, signature, expected) in cases {
        let request = Request {
            settings: settings.map(str::to_owned),
            ..Request::form("/w", BODY, signature)
        };
        assert_eq!(request.check(&verifier), expected, "{settings:?}");
    }
    let weak = Request {
        settings: Some(format!("key={ID}")),
        ..Request::form("/w", BODY, &sign("shared", &signed))
    };
    assert_eq!(
        weak.check(&verifier),
        algorithm(),
        "a SHA-256 key is not accepted with SHA-1"
    );
    let latin = SignedRequest {
        path_and_query: "/w",
        signature: Some(sha1.as_bytes()),
        settings: Some(b"key=\xff"),
        content_type: Some(FORM),
        body: BODY.as_bytes(),
        form: &Form::parse(BODY.as_bytes()),
    };
    assert_eq!(verifier.verify(&latin), malformed());
}

#[test]
fn keys_are_never_empty_and_never_shown() {
    let settings = |url: &str, token: &[u8]| VerifierSettings {
        public_url: url.to_owned(),
        auth_tokens: vec![token.into()],
        shared_keys: vec![SharedKey {
            id: "id".to_owned(),
            secret: b"hush-hush".as_slice().into(),
        }],
    };
    assert_eq!(
        Verifier::new(settings(PUBLIC, b"")).unwrap_err(),
        UnusableSettings::EmptyKey
    );
    assert_eq!(
        Verifier::new(settings("calls", b"x")).unwrap_err(),
        UnusableSettings::PublicUrl
    );
    let settings = settings(PUBLIC, b"tell-nobody");
    let shown = format!("{settings:?}");
    let shown = format!("{shown}{:?}", Verifier::new(settings).unwrap());
    assert!(
        !shown.contains("hush") && !shown.contains("tell") && !shown.contains("104"),
        "{shown}"
    );
    let none = verifier(PUBLIC, &[]);
    let request = Request::form("/w", BODY, &sign("", &format!("{PUBLIC}/w{FIELDS}")));
    assert_eq!(request.check(&none), Err(SignatureError::NoKey));
}

// ── The diagnosis ─────────────────────────────────────────────────────────────────────────

#[test]
fn a_failure_is_explained_without_giving_the_signature_away() {
    let base = "https://calls.example.com/sb";
    let verifier = keys(
        base,
        &["new", "old\n"],
        &[("webhooks_sharedkey_1", "shared")],
    );
    let hosts = Hosts {
        host: Some("inner:8080"),
        forwarded: Some("public.example.com, proxy"),
    };
    let body = "CallSid=CA1&CallToken=t&ToZip=";
    let fields = "CallSidCA1CallTokentToZip";
    let at = |url: &str| sign("new", &format!("{url}{fields}"));
    let host = |name: &str| Deviation::Host(name.to_owned());
    let cases = [
        (
            at("http://calls.example.com/sb/w?a=1"),
            vec![Deviation::Scheme("http://")],
        ),
        (
            at("https://calls.example.com/sb/w/?a=1"),
            vec![Deviation::SlashAdded],
        ),
        (
            at("https://calls.example.com/sb/w"),
            vec![Deviation::WithoutQuery],
        ),
        (
            at("https://calls.example.com/w?a=1"),
            vec![Deviation::WithoutPrefix],
        ),
        (
            at("https://public.example.com/sb/w?a=1"),
            vec![host("public.example.com")],
        ),
        (
            at("http://inner:8080/w?a=1"),
            vec![
                Deviation::Scheme("http://"),
                host("inner:8080"),
                Deviation::WithoutPrefix,
            ],
        ),
        (
            sign("old", &format!("{base}/w?a=1{fields}")),
            vec![Deviation::TokenWithWhiteSpace(1)],
        ),
        (
            sign("new", &format!("{base}/w?a=1")),
            vec![Deviation::WithoutFields],
        ),
        (
            sign("new", &format!("{base}/w?a=1CallSidCA1ToZip")),
            vec![Deviation::WithoutLateFields],
        ),
        (
            sign("new", &format!("{base}/w?a=1CallSidCA1CallTokent")),
            vec![Deviation::WithoutEmptyFields],
        ),
        (
            sign_256("shared", &format!("{base}/w?a=1{fields}")),
            vec![Deviation::Key(KeyUsed::SharedKey(
                "webhooks_sharedkey_1".to_owned(),
            ))],
        ),
        (sign("stranger", &format!("{base}/w?a=1{fields}")), vec![]),
        ("WRONG".to_owned(), vec![]),
    ];
    for (signature, expected) in cases {
        let request = Request::form("/w?a=1", body, &signature);
        let error = request.check(&verifier).unwrap_err();
        let diagnosis = request.with(|request| verifier.diagnose(request, &hosts, error));
        assert_eq!(diagnosis.would_match, expected);
        assert_eq!(diagnosis.parameters, ["CallSid", "CallToken", "ToZip"]);
        let text = diagnosis.to_string();
        assert!(
            !text.contains(&signature) && !text.contains("new"),
            "{text}"
        );
    }
    let wrong_key = Request {
        settings: Some("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256".to_owned()),
        ..Request::form(
            "/w?a=1",
            body,
            &sign("new", &format!("{base}/w?a=1{fields}")),
        )
    };
    let diagnosis = wrong_key.with(|r| verifier.diagnose(r, &hosts, SignatureError::Mismatch));
    assert_eq!(
        diagnosis.to_string(),
        "the signature matches neither a public URL nor its variants under any configured key; \
         it would match: signed with AuthToken 1 of the list"
    );
}

#[test]
fn a_signature_over_any_public_url_is_right_and_the_diagnosis_names_the_one_that_it_was_near() {
    let one = verifier("https://calls.example.com", &["token"]);
    let both = verifier("https://calls.example.com", &["token"])
        .also_public(["https://calls-b.example.com/sb"])
        .unwrap();
    let ours = |url: &str| sign("token", &format!("{url}CallSidCA1"));
    let hosts = Hosts::default();
    for (url, of_one, would_match) in [
        ("https://calls.example.com/w", true, None),
        ("https://calls-b.example.com/sb/w", false, None),
        ("https://calls-b.example.com:443/sb/w", false, None),
        (
            "https://calls-b.example.com/sb/w/",
            false,
            Some(vec![
                Deviation::Host("calls-b.example.com".to_owned()),
                Deviation::SlashAdded,
            ]),
        ),
        (
            "http://calls-b.example.com/sb/w",
            false,
            Some(vec![
                Deviation::Scheme("http://"),
                Deviation::Host("calls-b.example.com".to_owned()),
            ]),
        ),
        ("https://calls-c.example.com/w", false, Some(vec![])),
    ] {
        let request = Request::form("/w", "CallSid=CA1", &ours(url));
        assert_eq!(request.check(&one).is_ok(), of_one, "{url}");
        match (request.check(&both), would_match) {
            (result, None) => assert_eq!(result, OK, "{url}"),
            (result, Some(expected)) => {
                let error = result.unwrap_err();
                let diagnosis = request.with(|request| both.diagnose(request, &hosts, error));
                assert_eq!(diagnosis.would_match, expected, "{url}");
            }
        }
    }
    let nowhere = verifier("https://calls.example.com", &["token"]).also_public(["calls-b"]);
    assert_eq!(nowhere.unwrap_err(), UnusableSettings::PublicUrl);
}

// ── A second implementation ───────────────────────────────────────────────────────────────

/// Written from Twilio's description, in another style than the product and without a line of it: every string that Twilio may have signed is
/// built as a whole, signed with an HMAC done by hand, and compared as base64.
pub(crate) mod reference {
    use super::{Digest, Engine, STANDARD, Sha1};

    pub(crate) fn hmac<D: Digest>(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut block = [0_u8; 64];
        if key.len() > 64 {
            let digest = D::digest(key);
            block[..digest.len()].copy_from_slice(&digest);
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let pad = |with: u8| block.map(|b| b ^ with).to_vec();
        let inner = D::digest([pad(0x36), message.to_vec()].concat());
        D::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
    }

    /// Fields as they follow the URL.
    pub(crate) fn suffix(body: &[u8]) -> Vec<u8> {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = vec![];
        let mut rest = body.to_vec();
        rest.push(b'&');
        while let Some(end) = rest.iter().position(|b| *b == b'&') {
            let field: Vec<u8> = rest.drain(..=end).collect();
            let field = &field[..end];
            if field.is_empty() {
                continue;
            }
            let cut = field.iter().position(|b| *b == b'=').unwrap_or(end);
            let value = if cut < end { &field[cut + 1..] } else { &[] };
            fields.push((plain(&field[..cut]), plain(value)));
        }
        fields.sort();
        fields.dedup();
        let mut out = vec![];
        for (name, value) in fields {
            out.extend(name);
            out.extend(value);
        }
        out
    }

    fn plain(escaped: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        let mut i = 0;
        while i < escaped.len() {
            let hex = escaped
                .get(i + 1..i + 3)
                .filter(|h| escaped[i] == b'%' && h.iter().all(u8::is_ascii_hexdigit))
                .and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
            match (hex, escaped[i]) {
                (Some(byte), _) => {
                    out.push(byte);
                    i += 2;
                }
                (None, b'+') => out.push(b' '),
                (None, byte) => out.push(byte),
            }
            i += 1;
        }
        out
    }

    pub(super) fn urls(
        scheme: &str,
        host: &str,
        port: Option<u16>,
        prefix: &str,
        target: &str,
    ) -> Vec<String> {
        let default = if scheme == "http" { 80 } else { 443 };
        let hosts = [
            host.to_owned(),
            format!("{host}:{}", port.unwrap_or(default)),
        ];
        let mut paths = vec![format!("{prefix}{target}")];
        for end in ["/", "?"] {
            if !prefix.is_empty()
                && (target == prefix || target.starts_with(&format!("{prefix}{end}")))
            {
                paths.push(target.to_owned());
            }
        }
        let mut urls = vec![];
        for host in &hosts {
            for path in &paths {
                let (before, query) = path
                    .split_once('?')
                    .map_or((path.as_str(), None), |(b, q)| (b, Some(q)));
                let Some(query) = query else {
                    urls.push(format!("{scheme}://{host}{path}"));
                    continue;
                };
                let raw = ["%27", "%40", "%3A", "%3a"]
                    .iter()
                    .zip(["'", "@", ":", ":"]);
                let unescaped = raw.fold(query.to_owned(), |q, (from, to)| q.replace(from, to));
                for query in [query.to_owned(), query.replace('\'', "%27"), unescaped] {
                    urls.push(format!("{scheme}://{host}{before}?{query}"));
                }
            }
        }
        urls
    }

    pub(super) fn accepts(urls: &[String], body: &[u8], token: &str, signature: &str) -> bool {
        urls.iter().any(|url| {
            let message = [url.as_bytes().to_vec(), suffix(body)].concat();
            STANDARD.encode(hmac::<Sha1>(token.as_bytes(), &message)) == signature
        })
    }
}

fn body() -> impl Strategy<Value = String> {
    let field = "[A-Ca-c+]{0,3}(=([A-Ca-c1+ü']|%[0-9A-Fa-f]{2}|%){0,4})?";
    prop::collection::vec(field, 0..6).prop_map(|fields| fields.join("&"))
}

fn target() -> impl Strategy<Value = String> {
    "(/sb)?/{1,2}[a-z']{0,3}/?(\\?([a-z=&'@:+]|%27|%40|%3A|%3a|%2B|%){0,8})?"
}

proptest! {
    #![proptest_config(crate::property::seeded())]

    #[test]
    fn both_implementations_agree(
        scheme in "https?",
        host in "[A-Za-z]{1,5}\\.example|\\[2001:db8::1\\]",
        port in prop::option::of(1_u16..),
        prefix in "(/sb|/sb/x)?",
        target in target(),
        body in body(),
        token in "[0-9a-f]{1,80}",
        which in any::<prop::sample::Index>(),
        edit in 0_u8..6,
    ) {
        let urls = reference::urls(&scheme, &host, port, &prefix, &target);
        let url = urls[which.index(urls.len())].clone();
        // What was signed: one of the strings that are to be accepted, or one that a step was left out of or added to.
        let (url, fields, signer) = match edit {
            0 => (url.replace(&scheme, "ftp"), reference::suffix(body.as_bytes()), token.clone()),
            1 => (url, body.clone().into_bytes(), token.clone()),
            2 => (url, reference::suffix(body.as_bytes()), format!("{token}x")),
            3 => (url.replace("%2B", "+").to_lowercase(), reference::suffix(body.as_bytes()), token.clone()),
            _ => (url, reference::suffix(body.as_bytes()), token.clone()),
        };
        let message = [url.into_bytes(), fields].concat();
        let signature = STANDARD.encode(reference::hmac::<Sha1>(signer.as_bytes(), &message));
        let expected = reference::accepts(&urls, body.as_bytes(), &token, &signature);
        prop_assert!(expected || edit < 4);
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let verifier = verifier(&format!("{scheme}://{host}{port}{prefix}"), &[&token]);
        let result = Request::form(&target, &body, &signature).check(&verifier);
        prop_assert_eq!(result.is_ok(), expected, "{:?}", result);
    }

    #[test]
    fn nothing_that_is_sent_panics(
        target in any::<String>(),
        signature in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        real in any::<bool>(),
        settings in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        content_type in prop::option::of(any::<String>()),
        json in any::<bool>(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        host in prop::option::of(any::<String>()),
    ) {
        let verifier = keys("https://calls.example.com/sb", &[TOKEN], &[("k", "shared")]);
        let genuine = sign(TOKEN, "x");
        let request = SignedRequest {
            path_and_query: &target,
            signature: if real { Some(genuine.as_bytes()) } else { signature.as_deref() },
            settings: settings.as_deref(),
            content_type: if json { Some("application/json") } else { content_type.as_deref() },
            body: &body,
            form: &Form::parse(&body),
        };
        let error = verifier.verify(&request).unwrap_err();
        let hosts = Hosts { host: host.as_deref(), forwarded: host.as_deref() };
        prop_assert!(verifier.diagnose(&request, &hosts, error).would_match.is_empty());
    }

    #[test]
    fn any_public_url_is_taken_or_refused(public_url in any::<String>(), rest in "https?://[^ ]{0,20}") {
        for public_url in [public_url, rest] {
            let settings = VerifierSettings { public_url, auth_tokens: vec![b"x".as_slice().into()], shared_keys: vec![] };
            if let Ok(verifier) = Verifier::new(settings) {
                prop_assert!(Request::form("/w", BODY, &sign(TOKEN, "x")).check(&verifier).is_err());
            }
        }
    }
}
