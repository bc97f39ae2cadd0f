//! The installation's secret is changed by the command, beside the server and without it, and after an end in its midst.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::Call;

use super::serve::Served;
use super::{Place, Ran};
use crate::world::{CALLED, COLD, HOT};

async fn ring(place: &Place, caller: &str) {
    let result = place.outside.twilio.call(Call::new(caller, CALLED)).await;
    assert_eq!(result.violations, Vec::<String>::new());
}

fn secret(place: &Place, suffix: &str) -> Option<String> {
    let name = format!("switchboard.db.secret{suffix}");
    let text = fs::read_to_string(place.path(&name)).ok()?;
    let mode = fs::metadata(place.path(&name)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    Some(text)
}

fn count(place: &Place, kind: &str) -> i64 {
    let database = Connection::open(place.path("switchboard.db")).unwrap();
    let sql = "SELECT count(*) FROM audit_records WHERE kind = ?1";
    database.query_row(sql, [kind], |row| row.get(0)).unwrap()
}

/// Whether a change of a service's state is told in such words. How often says nothing: refused credentials are tried again by the clock.
fn is_told(place: &Place, like: &str) -> bool {
    let database = Connection::open(place.path("switchboard.db")).unwrap();
    let sql = "SELECT count(*) FROM audit_records WHERE kind = 'health_changed' AND detail LIKE ?1";
    let told: i64 = database.query_row(sql, [like], |row| row.get(0)).unwrap();
    told > 0
}

/// Why the circuit of a dialer is open, as the next process will know it.
fn open_cause(place: &Place, dialer: &str) -> Option<String> {
    let database = Connection::open(place.path("switchboard.db")).unwrap();
    let sql = "SELECT open_cause FROM dialer_states WHERE service = ?1";
    database.query_row(sql, [dialer], |row| row.get(0)).unwrap()
}

async fn calls_known(place: &Place, caller: &str) -> i64 {
    let arguments = ["erase", "--caller", caller, "--dry-run", "--json"];
    let ran = place.run(&arguments).await.exits(0);
    ran.json()["calls"].as_i64().unwrap()
}

async fn assert_verifies(place: &Place) {
    let verified = place.run(&["audit", "verify", "--json"]).await.exits(0);
    assert_eq!(verified.json()["ok"], true, "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_changed_beside_the_server_without_it_and_after_a_kill() {
    let place = Place::new();
    let mut served = Served::start(&place).await;
    ring(&place, HOT).await;
    ring(&place, HOT).await;
    ring(&place, COLD).await;
    place.run(&["backup", "before.db"]).await.exits(0);
    // A dialer refuses its credentials from here on: that has to be known again, too.
    place.outside.zendesk.faults().standing(Fault::status(401));
    ring(&place, COLD).await;
    assert!(is_told(&place, "%refused%"));
    let first = secret(&place, "").unwrap();

    let ran = place.run(&["secret", "rotate", "--json"]).await.exits(0);
    let report = ran.json();
    assert_eq!(report["rotated"], true);
    assert!(report["rows"].as_i64().unwrap() >= 5, "{report}");
    served.event("secret.rotated", 1).await;
    let second = secret(&place, "").unwrap();
    assert_ne!(first, second);
    assert!(!ran.stdout.contains(second.trim()) && !ran.stderr.contains(second.trim()));
    assert_eq!(secret(&place, ".old").unwrap(), first);
    assert_eq!(secret(&place, ".next"), None);
    assert_eq!(count(&place, "secret_rotated"), 1);
    assert_verifies(&place).await;
    ring(&place, HOT).await;
    assert_eq!(calls_known(&place, HOT).await, 3);
    let again = place.run(&["secret", "rotate"]).await.exits(2);
    assert!(again.stderr.contains(".secret.old"), "{again:?}");
    place.run(&["reload"]).await.exits(0);

    // What the process knew by the old secret, the next one knows again.
    let changed = count(&place, "config_changed");
    served.signal("KILL");
    served.end().await;
    let served = Served::start(&place).await;
    assert_eq!(count(&place, "config_changed"), changed);
    assert!(!is_told(&place, "%its credentials changed%"));
    let cause = open_cause(&place, "zendesk");
    assert!(cause.is_some_and(|cause| cause.starts_with("refused")));
    assert_eq!(calls_known(&place, HOT).await, 3);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    assert_verifies(&place).await;
    let refused = place.run(&["restore", "before.db", "--force"]).await;
    let refused = refused.exits(78);
    assert!(refused.stderr.contains(".old"), "{refused:?}");

    // The process was killed when the next secret had been drawn.
    let old = place.path("switchboard.db.secret.old");
    fs::rename(&old, place.path("kept")).unwrap();
    let third = format!("{}\n", "5".repeat(64));
    fs::write(place.path("switchboard.db.secret.next"), &third).unwrap();
    place.set_mode("switchboard.db.secret.next", 0o600);
    assert_eq!(calls_known(&place, HOT).await, 3);
    let mut served = Served::start(&place).await;
    served.event("secret.rotated", 1).await;
    assert_eq!(secret(&place, "").unwrap(), third);
    assert_eq!(secret(&place, ".old").unwrap(), second);
    ring(&place, HOT).await;
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    assert_eq!(count(&place, "config_changed"), changed);

    // Without a server, the command does it.
    fs::remove_file(&old).unwrap();
    place.run(&["secret", "rotate"]).await.exits(0);
    assert_eq!(secret(&place, ".old").unwrap(), third);
    assert_eq!(count(&place, "secret_rotated"), 3);
    assert_verifies(&place).await;
    let erased = ["erase", "--caller", HOT, "--json"];
    let erased = place.run(&erased).await.exits(0).json();
    assert_eq!(
        (&erased["erased"], &erased["calls"]),
        (&true.into(), &4.into())
    );
    assert_verifies(&place).await;

    // The backup of before, with the secret of before.
    let refused = place.run(&["restore", "before.db", "--force"]).await;
    refused.exits(78);
    fs::remove_file(&old).unwrap();
    fs::rename(place.path("kept"), place.path("switchboard.db.secret")).unwrap();
    place
        .run(&["restore", "before.db", "--force"])
        .await
        .exits(0);
    assert_eq!(calls_known(&place, HOT).await, 2);
}

#[tokio::test]
async fn a_secret_is_replaced_where_it_is_in_a_file_of_its_own_and_nowhere_else() {
    let place = Place::new();
    place.run(&["secret", "rotate"]).await.exits(1);
    let text = place.text();
    let with = |secret: &str| {
        let line = format!("[storage]\nsecret = {secret}\n");
        place.configure(&text.replace("[storage]\n", &line));
    };
    with("{ file = \"own\" }");
    fs::write(place.path("own"), "a secret that somebody has drawn\n").unwrap();
    place.set_mode("own", 0o600);
    place.run(&["migrate", "up"]).await.exits(0);
    place.run(&["secret", "rotate"]).await.exits(0);
    let old = fs::read_to_string(place.path("own.old")).unwrap();
    assert_eq!(old, "a secret that somebody has drawn\n");
    let new = fs::read_to_string(place.path("own")).unwrap();
    assert_ne!(new, old);
    assert!(!place.path("switchboard.db.secret").exists());
    assert_verifies(&place).await;

    with("{ env = \"OWN\" }");
    let mut command = place.command(&["secret", "rotate"]);
    command.env("OWN", new.trim());
    let refused = Ran::of(command).await.exits(2);
    assert!(refused.stderr.contains("file of its own"), "{refused:?}");
    with(&format!("\"{}\"", new.trim()));
    let refused = place.run(&["secret", "rotate"]).await.exits(2);
    assert!(refused.stderr.contains("file of its own"), "{refused:?}");
}
