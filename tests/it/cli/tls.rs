//! Certificates from files, over the real binary: replaced while serving, by good ones and by others.

use std::fs;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use switchboard::http::keys::DrawnKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Place;
use super::serve::Served;

const NAME: &str = "calls.example.com";

/// Writes a certificate and its key where the configuration wants them; gives a client that trusts nobody else.
fn issue(place: &Place, until: i32, own_key: bool) -> TlsConnector {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(place.path("chain.pem"), certificate.pem()).unwrap();
    let other = KeyPair::generate().unwrap();
    let written = if own_key { &key } else { &other };
    fs::write(place.path("key.pem"), written.serialize_pem()).unwrap();
    place.set_mode("key.pem", 0o600);
    trusting(certificate.der().clone())
}

fn trusting(certificate: CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn is_trusted(served: &Served, client: &TlsConnector) -> bool {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = NAME.try_into().unwrap();
    client.connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn files_that_cannot_be_served_leave_the_old_certificate_in_force() {
    let place = Place::new();
    let first = issue(&place, 2046, true);
    place.reconfigure(
        "[storage]",
        "[server.tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n[storage]",
    );
    let mut served = Served::start(&place).await;
    assert!(is_trusted(&served, &first).await);
    let started = served.event("service.started", 1).await;
    assert!(
        started["tls_expires_at"]
            .as_str()
            .unwrap()
            .starts_with("2046-01-01"),
        "{started}"
    );

    let bad: [(&dyn Fn(), &str); 3] = [
        (
            &|| fs::write(place.path("chain.pem"), "junk").unwrap(),
            "holds no certificate",
        ),
        (&|| drop(issue(&place, 2020, true)), "expired at 2020-01-01"),
        (
            &|| drop(issue(&place, 2047, false)),
            "cannot be served with the key",
        ),
    ];
    for (n, (replace, words)) in bad.into_iter().enumerate() {
        replace();
        served.signal("HUP");
        let refused = served.event("tls.refused", n + 1).await;
        assert!(
            refused["error"].as_str().unwrap().contains(words),
            "{refused}"
        );
        assert!(is_trusted(&served, &first).await, "{words}");
    }
    let opened = served.event("alert.opened", 1).await;
    assert_eq!(opened["kind"], "certificate_expiring", "{opened}");
    let cause = opened["cause"].as_str().unwrap();
    assert!(cause.contains("there is no new certificate: "), "{opened}");
    let second = issue(&place, 2048, true);
    served.signal("HUP");
    let taken = served.event("tls.reloaded", 1).await;
    assert_eq!(taken["names"], NAME);
    assert!(is_trusted(&served, &second).await && !is_trusted(&served, &first).await);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
}

/// The one answer to a request over TLS, as it came.
async fn asked_over_tls(served: &Served, client: &TlsConnector, request: &str) -> String {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let mut stream = client
        .connect(NAME.try_into().unwrap(), stream)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn over_tls_browsers_are_told_to_come_back_over_tls_only_and_cookies_stay_there() {
    let place = Place::new();
    let client = issue(&place, 2046, true);
    let drawn = DrawnKey::draw().unwrap();
    place.reconfigure(
        "[storage]",
        "[server.tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n[storage]",
    );
    let text = place.text();
    let hash = drawn.hash.to_hex();
    place.configure(&format!(
        "{text}\n[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"{hash}\"\n"
    ));
    let served = Served::start(&place).await;
    let year = "strict-transport-security: max-age=31536000";
    for path in [
        "/health",
        "/api/v1/calls",
        "/",
        "/docs",
        "/nothing",
        "/webhooks/twilio",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        let answer = asked_over_tls(&served, &client, &request).await;
        assert!(answer.to_lowercase().contains(year), "{path}: {answer}");
    }
    let body = format!("{{\"key\": \"{}\"}}", drawn.key);
    let request = format!(
        "POST /api/v1/session HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = asked_over_tls(&served, &client, &request).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie: "));
    let cookie = cookie.unwrap_or_default();
    assert!(cookie.contains("__Host-switchboard_session="), "{answer}");
    assert!(cookie.contains("; Secure"), "{answer}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_served_at_all_is_named_at_the_start() {
    let place = Place::new();
    drop(issue(&place, 2046, false));
    place.reconfigure(
        "[storage]",
        "[server.tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n[storage]",
    );
    for command in ["serve", "check-config"] {
        let refused = place.run(&[command]).await.exits(78);
        for word in [
            "config.toml:",
            "server.tls.certificate",
            "chain.pem",
            "key.pem",
        ] {
            assert!(refused.stderr.contains(word), "{command}: {refused:?}");
        }
    }
    for (file, content, words) in [
        (
            "chain.pem",
            "no certificate",
            "chain.pem, which holds no certificate; the file must be PEM",
        ),
        (
            "chain.pem",
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
            "cannot be served",
        ),
        (
            "key.pem",
            "no key",
            "key.pem, which holds no private key; the file must be PEM",
        ),
    ] {
        let before = fs::read(place.path(file)).unwrap();
        fs::write(place.path(file), content).unwrap();
        for command in ["serve", "check-config"] {
            let refused = place.run(&[command]).await.exits(78);
            assert!(
                refused.stderr.contains(words),
                "{command}, {content}: {refused:?}"
            );
        }
        let document = place
            .run(&["check-config", "--json"])
            .await
            .exits(78)
            .json();
        let finding = &document["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["severity"] == "error")
            .unwrap();
        assert!(
            finding["line"].is_u64() && finding["hint"].is_string(),
            "{document}"
        );
        fs::write(place.path(file), before).unwrap();
    }
}
