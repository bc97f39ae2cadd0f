//! Schema versions: `schema.sql` is the sum of all steps, and a database is moved along them with its data.

use super::*;
use crate::audit::Kind;
use crate::store::migrate::{self, MigrationStatus};
use crate::store::migrations::{MigrationStep, STEPS};
use crate::store::{OpenError, audit_records, file};

const SCHEMA: &str = include_str!("../../../schema.sql");
const LATEST: u32 = 1;

/// Two steps after the real ones, as a later release would have them.
fn later() -> Vec<MigrationStep> {
    let mut steps: Vec<_> = STEPS.iter().map(|step| MigrationStep { ..*step }).collect();
    steps.push(MigrationStep {
        version: LATEST + 1,
        name: "notes",
        up: "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT) STRICT;
             INSERT INTO notes (body) SELECT sid FROM calls;",
        down: "DROP TABLE notes;",
    });
    steps.push(MigrationStep {
        version: LATEST + 2,
        name: "note colors",
        up: "ALTER TABLE notes ADD COLUMN color TEXT;",
        down: "ALTER TABLE notes DROP COLUMN color;",
    });
    steps
}

fn clock() -> Clock {
    Clock::manual(at(0))
}

/// What the schema says, without regard to white space and comments.
fn described(connection: &Connection) -> Vec<(String, String, String)> {
    let mut statement = connection
        .prepare(
            "SELECT type, name, coalesce(sql, '') FROM sqlite_schema
             WHERE name <> 'sqlite_sequence' ORDER BY type, name",
        )
        .unwrap();
    let rows = statement.query_map([], |row| {
        let sql: String = row.get(2)?;
        let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let sql = sql.replace(" ,", ",").replace(" )", ")");
        Ok((row.get(0)?, row.get(1)?, sql))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn numbers(connection: &Connection) -> Vec<i64> {
    [
        "application_id",
        "user_version",
        "auto_vacuum",
        "page_size",
        "encoding",
    ]
    .iter()
    .map(|pragma| {
        connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .unwrap_or(-1)
    })
    .collect()
}

#[test]
fn the_schema_file_is_the_sum_of_all_steps() {
    let (written, stepped) = (Home::new(), Home::new());
    written.stranger().execute_batch(SCHEMA).unwrap();
    migrate::up(&stepped.path(), &clock(), &key_ring()).unwrap();
    assert_eq!(
        described(&written.stranger()),
        described(&stepped.stranger())
    );
    assert_eq!(numbers(&written.stranger()), numbers(&stepped.stranger()));
    for table in ["log_identity", "prune_gate"] {
        let count = |home: &Home| {
            let sql = format!("SELECT count(*) FROM {table}");
            home.stranger()
                .query_row(&sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!((count(&written), count(&stepped)), (1, 1));
    }
}

#[tokio::test]
async fn an_older_database_is_copied_then_migrated_with_its_data() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    let head = store.head().await.unwrap();
    store.close().await;
    let steps = later();
    assert_eq!(
        migrate::status_with(&home.path(), &steps).unwrap(),
        MigrationStatus {
            current: LATEST,
            latest: LATEST + 2,
            pending: vec![
                format!("{}: notes", LATEST + 1),
                format!("{}: note colors", LATEST + 2),
            ],
        }
    );
    let store = Store::open_with(&home.options(), &steps).unwrap();
    assert_eq!(store.head().await.unwrap(), head);
    store.close().await;
    let note: String = home
        .stranger()
        .query_row("SELECT body FROM notes", [], |row| row.get(0))
        .unwrap();
    assert_eq!(note, "CA1");
    let backups = home.files(".bak");
    assert_eq!(backups.len(), 1);
    assert!(
        backups[0]
            .to_string_lossy()
            .ends_with(&format!(".db.v{LATEST}.{START_MS}.bak"))
    );
    // The copy is a whole database of the older version, which this program opens.
    let copy = Store::open(&Options::new(&backups[0], clock(), key_ring())).unwrap();
    assert_eq!(verified(&copy).await.len(), 1);
    copy.close().await;
    // And the migrated one is none for a program that knows the steps before only.
    assert!(Store::open(&home.options()).is_err());
}

#[tokio::test]
async fn up_down_up_with_data_ends_where_it_began() {
    let home = Home::new();
    let store = home.open();
    store
        .open_call(vec![decided(&call_id("CA1"), 0)])
        .await
        .unwrap();
    store.close().await;
    let first = described(&home.stranger());
    let steps = later();
    migrate::up_with(&home.path(), &clock(), &key_ring(), &steps).unwrap();
    let back = migrate::down_with(&home.path(), LATEST, &Clock::manual(at(1)), &steps).unwrap();
    assert_eq!((back.from, back.to), (LATEST + 2, LATEST));
    assert!(back.backup.unwrap().exists());
    assert_eq!(described(&home.stranger()), first);
    let store = home.open();
    assert_eq!(verified(&store).await.len(), 1);
    store.close().await;
    let gone = migrate::down(&home.path(), 0, &Clock::manual(at(2))).unwrap();
    assert_eq!((gone.from, gone.to), (LATEST, 0));
    assert!(described(&home.stranger()).is_empty());
    assert_eq!(
        migrate::status(&home.path()).unwrap().pending.len(),
        STEPS.len() + 1
    );
    let again = migrate::up(&home.path(), &Clock::manual(at(3)), &key_ring()).unwrap();
    assert_eq!((again.from, again.to), (0, LATEST));
    assert_eq!(described(&home.stranger()), first);
    let store = home.open();
    assert_eq!(verified(&store).await.len(), 0);
    store.close().await;
}

#[test]
fn a_step_that_fails_leaves_the_database_as_it_was() {
    let home = Home::new();
    migrate::up(&home.path(), &clock(), &key_ring()).unwrap();
    let first = described(&home.stranger());
    let mut steps = later();
    steps.push(MigrationStep {
        version: LATEST + 3,
        name: "broken",
        up: "CREATE TABLE calls (id INTEGER PRIMARY KEY)",
        down: "",
    });
    assert!(migrate::up_with(&home.path(), &clock(), &key_ring(), &steps).is_err());
    assert_eq!(described(&home.stranger()), first);
    assert_eq!(migrate::status(&home.path()).unwrap().current, LATEST);
    assert_eq!(home.files(".bak").len(), 1);
}

#[test]
fn there_is_no_way_down_to_a_version_above() {
    let home = Home::new();
    assert_eq!(migrate::status(&home.path()).unwrap().current, 0);
    assert!(!file::exists(&home.path()).unwrap());
    migrate::up(&home.path(), &clock(), &key_ring()).unwrap();
    let refused = migrate::down(&home.path(), LATEST + 1, &clock());
    assert!(matches!(
        refused,
        Err(OpenError::NoSuchVersion {
            asked,
            known: LATEST,
        }) if asked == LATEST + 1
    ));
}

/// Who makes a new kind says here which it is: there is no wildcard.
fn comes_with_every_call(kind: Kind) -> bool {
    match kind {
        Kind::CallDecided
        | Kind::HandoffIntended
        | Kind::HandoffConcluded
        | Kind::CallAnswered
        | Kind::DialEnded
        | Kind::LegReported => true,
        Kind::ServiceStarted
        | Kind::ServiceStopped
        | Kind::RulesetLoaded
        | Kind::CallAdopted
        | Kind::CallReaped
        | Kind::CallEnded
        | Kind::CallCorrected
        | Kind::MissedAnnounced
        | Kind::WebhookUnusable
        | Kind::ProfilePushed
        | Kind::HealthChanged
        | Kind::ConfigChanged
        | Kind::ConfigRefused
        | Kind::IncidentOpened
        | Kind::IncidentReminded
        | Kind::IncidentResolved
        | Kind::IncidentAcknowledged
        | Kind::AlertsMuted
        | Kind::AlertTested
        | Kind::DaySummed
        | Kind::SigningKeyNamed
        | Kind::Pruned
        | Kind::RollbackAccepted
        | Kind::Restored
        | Kind::CallerErased
        | Kind::SecretRotated
        | Kind::Exported
        | Kind::ClockStepped
        | Kind::CompletenessChecked
        | Kind::Accessed
        | Kind::DraftChanged
        | Kind::DraftDiffers
        | Kind::ScoreRefreshed
        | Kind::KeyChanged
        | Kind::ListChanged => false,
    }
}

#[test]
fn every_kind_but_those_of_every_call_is_found_by_its_index() {
    for &kind in Kind::ALL {
        assert_eq!(
            audit_records::is_frequent(kind),
            comes_with_every_call(kind),
            "{kind:?}"
        );
    }
    assert!(
        SCHEMA.contains(audit_records::RARE),
        "the index is of other kinds than the question"
    );
}

#[test]
fn a_record_is_written_without_building_a_table_for_it() {
    let home = Home::new();
    migrate::up(&home.path(), &clock(), &key_ring()).unwrap();
    let database = home.stranger();
    let mut statement = database
        .prepare(
            "EXPLAIN INSERT INTO audit_records
             (id, created_at, kind, call_sid, personal, detail, previous_hash, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .unwrap();
    let steps: Vec<String> = statement
        .query_map(rusqlite::params![1, 0, "", "", "", "", "", ""], |row| {
            row.get("opcode")
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(steps.iter().any(|step| step == "Insert"));
    assert!(steps.iter().all(|step| step != "OpenEphemeral"));
}
