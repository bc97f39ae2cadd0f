//! Webhooks whose signature fails for a reason that somebody can do something about: the doctor names the reason and the setting.

use std::collections::BTreeMap;

use serde::Deserialize;
use switchboard::twilio::{Form, Hosts, SharedKey, SignedRequest, Verifier, VerifierSettings};

/// A webhook as Twilio signed it and as it arrived.
#[derive(Debug, Deserialize)]
struct BrokenSignature {
    name: String,
    public_url: String,
    auth_tokens: Vec<String>,
    shared_keys: BTreeMap<String, String>,
    method: String,
    target: String,
    host: String,
    content_type: String,
    settings: Option<String>,
    body: String,
    signature: String,
    /// What the diagnosis has to hold, and what the advice.
    cause: String,
    remedy: String,
}

#[test]
fn each_way_in_which_a_signature_breaks_is_named_with_the_setting_that_explains_it() {
    let corpus = include_str!("../data/broken_signatures.jsonl");
    let mut wrong = Vec::new();
    let mut n = 0;
    for line in corpus.lines() {
        n += 1;
        let broken: BrokenSignature = serde_json::from_str(line).unwrap();
        let bytes = |text: &String| text.as_bytes().into();
        let verifier = Verifier::new(VerifierSettings {
            public_url: broken.public_url.clone(),
            auth_tokens: broken.auth_tokens.iter().map(bytes).collect(),
            shared_keys: broken
                .shared_keys
                .iter()
                .map(|(id, secret)| SharedKey {
                    id: id.clone(),
                    secret: bytes(secret),
                })
                .collect(),
        });
        let verifier = verifier.unwrap();
        let form = Form::parse(broken.body.as_bytes());
        let request = SignedRequest {
            path_and_query: &broken.target,
            signature: Some(broken.signature.as_bytes()),
            settings: broken.settings.as_deref().map(str::as_bytes),
            content_type: (broken.method == "POST").then_some(&*broken.content_type),
            body: broken.body.as_bytes(),
            form: &form,
        };
        let hosts = Hosts {
            host: Some(&broken.host),
            forwarded: None,
        };
        let error = verifier.verify(&request).unwrap_err();
        let diagnosis = verifier.diagnose(&request, &hosts, error);
        let (told, remedy) = (diagnosis.to_string(), diagnosis.remedy());
        if !told.contains(&broken.cause) || !remedy.contains(&broken.remedy) {
            wrong.push(format!("{}: {told} -> {remedy}", broken.name));
        }
        assert!(!told.contains(&broken.signature) || broken.signature.is_empty());
    }
    assert!(n >= 20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
