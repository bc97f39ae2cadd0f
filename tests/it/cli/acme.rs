//! Certificates from an authority: the real binary against Pebble, the authority that is made for tests.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Place;
use super::serve::{PATIENCE, Served};

/// How long Pebble's certificates live: renewed after two thirds.
const LIFE: u64 = 15;
const NAME: &str = "calls.example.com";

/// An authority on loopback, and the name server that it asks.
struct Authority {
    processes: Vec<Child>,
    directory: String,
}

impl Authority {
    /// `None` where Pebble is not installed.
    async fn start(place: &Place, tls_port: u16) -> Option<Self> {
        let is_there = |name: &str| Command::new(name).arg("-h").output().is_ok();
        if !is_there("pebble") || !is_there("pebble-challtestsrv") {
            return None;
        }
        let [acme, management, names, control] =
            [free_port(), free_port(), free_port(), free_port()];
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::NoCa;
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(place.path("pebble.pem"), certificate.pem()).unwrap();
        std::fs::write(place.path("pebble.key"), key.serialize_pem()).unwrap();
        let settings = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{acme}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": place.path("pebble.pem"),
            "privateKey": place.path("pebble.key"),
            "httpPort": free_port(),
            "tlsPort": tls_port,
            "certificateValidityPeriod": LIFE,
        }});
        std::fs::write(place.path("pebble.json"), settings.to_string()).unwrap();
        let quiet = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let name_server = quiet(Command::new("pebble-challtestsrv").args([
            "-dns01",
            &format!("127.0.0.1:{names}"),
            "-management",
            &format!("127.0.0.1:{control}"),
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]));
        let authority = quiet(
            Command::new("pebble")
                .args(["-dnsserver", &format!("127.0.0.1:{names}"), "-config"])
                .arg(place.path("pebble.json"))
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0"),
        );
        let listening = async {
            while TcpStream::connect(("127.0.0.1", acme)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.unwrap();
        Some(Self {
            processes: vec![authority, name_server],
            directory: format!("https://localhost:{acme}/dir"),
        })
    }

    fn stop(&mut self) {
        for mut process in self.processes.drain(..) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Asks over TLS; who signed the certificate does not matter here.
async fn ask(served: &Served, path: &str) -> String {
    let client = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .resolve(NAME, served.address)
        .timeout(Duration::from_mins(3))
        .build()
        .unwrap();
    let url = format!("https://{NAME}:{}{path}", served.address.port());
    let answer = client.get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.text().await.unwrap()
}

fn expiry(event: &Value) -> jiff::Timestamp {
    event["expires_at"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_certificate_is_obtained_served_renewed_and_outlives_its_authority() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let place = Place::new();
    let port = free_port();
    let Some(mut authority) = Authority::start(&place, port).await else {
        crate::skipped(
            "cli::acme: a certificate of an authority",
            "pebble is not installed (Debian package pebble)",
        );
        return;
    };
    place.reconfigure(
        "listen = \"127.0.0.1:0\"",
        &format!("listen = \"127.0.0.1:{port}\""),
    );
    place.reconfigure(
        "[storage]",
        &format!(
            "[server.acme]\ndomains = [\"{NAME}\"]\ncontact = \"ops@example.com\"\ndirectory = \"{}\"\nca = \"pebble.pem\"\ncache = \"acme\"\n[storage]",
            authority.directory
        ),
    );
    let mut served = Served::in_step(&place, place.command(&["serve"])).await;
    let first = served.event("tls.reloaded", 1).await;
    assert_eq!(first["names"], NAME);
    assert!(ask(&served, "/health").await.contains("ok"));
    let metrics = ask(&served, "/metrics").await;
    let gauge = format!(
        "switchboard_tls_certificate_expiry_timestamp_seconds {}\n",
        expiry(&first).as_second()
    );
    assert!(metrics.contains(&gauge), "{metrics}");

    let second = served.event("tls.reloaded", 2).await;
    assert!(expiry(&second) > expiry(&first), "{second}");
    authority.stop();
    let refused = served.event("tls.refused", 1).await;
    assert_eq!(refused["level"], "error");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains(&authority.directory), "{error}");
    let opened = served.event("alert.opened", 1).await;
    assert_eq!(opened["kind"], "certificate_expiring", "{opened}");
    assert!(
        ask(&served, "/health").await.contains("ok"),
        "the old one stays"
    );
    let metrics = ask(&served, "/metrics").await;
    assert!(
        metrics.contains("switchboard_tls_certificate_failures_total 1\n"),
        "{metrics}"
    );
    let kept: Vec<_> = std::fs::read_dir(place.path("acme")).unwrap().collect();
    assert_eq!(kept.len(), 2, "account and certificate: {kept:?}");
    served.signal("TERM");
    let (code, lines) = served.end().await;
    assert_eq!(code, Some(0), "{lines:#?}");

    // The kept certificate is served by the next run although nobody can be asked.
    let next = Served::in_step(&place, place.command(&["serve"])).await;
    assert!(ask(&next, "/health").await.contains("ok"));
    next.signal("TERM");
    assert_eq!(next.end().await.0, Some(0));
}
