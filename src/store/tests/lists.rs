//! Entries of lists: sealed, signed, kept through a restart, a rotation and a backup; a person who is erased stays blocked and nothing else.

use super::*;
use crate::audit::{ListAction, ListChanged};
use crate::phone::{Caller, E164};
use crate::routing::ListEntry;
use crate::store::copy;
use crate::store::{Part, Rotation, StoredListEntry, rows};

const CALLER: &str = "+4915112345650";
const OTHER: &str = "+4915112345651";

fn number(text: &str) -> E164 {
    E164::parse(text).unwrap()
}

/// A number of somebody else each time.
fn number_of(n: usize) -> String {
    format!("+493000000{n}")
}

fn changed(list: &str, entry: &str, change: ListAction, until: Option<i64>) -> ListChanged {
    ListChanged {
        list: list.into(),
        entry: entry.into(),
        change,
        by: "ops".into(),
        until: until.map(at),
    }
}

async fn record(store: &Store, caller: &str, why: &str, changed: ListChanged, ms: i64) {
    let record = Record {
        personal: Some(Personal {
            caller: Some(caller.into()),
            why: Some(why.into()),
            ..Personal::default()
        }),
        ..Record::of_service(at(ms), Event::ListChanged(changed))
    };
    store.append(vec![record]).await.unwrap();
}

async fn add(store: &Store, list: &str, entry: &str, caller: &str, why: &str) {
    let added = changed(list, entry, ListAction::Added, None);
    record(store, caller, why, added, 0).await;
}

/// The person on two lists, and somebody else on both.
async fn filled(store: &Store) {
    add(store, "vip", "v1", CALLER, "the mayor").await;
    add(store, "blocked", "b1", CALLER, "shouts a lot").await;
    add(store, "vip", "v2", OTHER, "a friend").await;
    add(store, "blocked", "b2", OTHER, "sells things").await;
}

fn hash(store: &Store, caller: &str) -> [u8; 16] {
    store.list_key().hash(&number(caller))
}

fn places(entries: &[ListEntry]) -> Vec<(&str, &str)> {
    let places = entries.iter().map(|entry| (&*entry.list, &*entry.id));
    places.collect()
}

async fn entries_of(store: &Store, list: &str) -> Vec<StoredListEntry> {
    let all = Part {
        after: None,
        skip: 0,
        size: 100,
    };
    store.list_page(list, all).await.unwrap().rows
}

fn bytes(home: &Home) -> Vec<u8> {
    let files = home.files(".db");
    files
        .iter()
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn holds(home: &Home, what: &[u8]) -> bool {
    bytes(home).windows(what.len()).any(|found| found == what)
}

fn altered(home: &Home, key_ring: &KeyRing) -> Vec<String> {
    rows::altered(&home.stranger(), key_ring, 10).unwrap()
}

#[tokio::test]
async fn an_entry_is_read_back_after_a_restart_and_no_file_names_its_number_or_its_reason() {
    let home = Home::new();
    let store = home.open();
    filled(&store).await;
    let until = changed("vip", "v1", ListAction::Added, Some(5_000));
    record(&store, CALLER, "no more", until, 100).await;
    store.close().await;
    for clear in [&CALLER[1..], "mayor", "no more", "shouts"] {
        assert!(!holds(&home, clear.as_bytes()), "{clear}");
    }
    let store = home.open();
    let entries = store.list_entries().await.unwrap();
    let expected = [
        ("vip", "v1"),
        ("blocked", "b1"),
        ("vip", "v2"),
        ("blocked", "b2"),
    ];
    assert_eq!(places(&entries), expected);
    assert_eq!(entries[0].hash, hash(&store, CALLER));
    assert_eq!(entries[0].until, Some(at(5_000)));
    let entry = store.list_entry("vip", "v1").await.unwrap().unwrap();
    let expected = StoredListEntry {
        id: "v1".into(),
        list: "vip".into(),
        number: Some(number(CALLER)),
        why: Some("no more".into()),
        by: "ops".into(),
        until: Some(at(5_000)),
        created_at: at(0),
    };
    assert_eq!(entry, expected);
    assert_eq!(store.list_entry("blocked", "v1").await.unwrap(), None);
    let newest: Vec<String> = entries_of(&store, "vip")
        .await
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(newest, ["v2", "v1"]);
    let removed = changed("vip", "v1", ListAction::Removed, None);
    record(&store, CALLER, "", removed, 200).await;
    assert_eq!(entries_of(&store, "vip").await.len(), 1);
    assert_eq!(verified(&store).await.len(), 6);
    assert_eq!(store.altered_rows(), None);
    store.close().await;
}

#[tokio::test]
async fn a_page_of_entries_goes_on_where_the_one_before_ended() {
    let home = Home::new();
    let store = home.open();
    for n in 0..5 {
        add(&store, "vip", &format!("e{n}"), &number_of(n), "x").await;
    }
    let mut part = Part {
        after: None,
        skip: 0,
        size: 2,
    };
    let mut seen = Vec::new();
    loop {
        let page = store.list_page("vip", part).await.unwrap();
        assert_eq!((page.total, page.total_is_exact), (5, true));
        seen.extend(page.rows.into_iter().map(|entry| entry.id));
        part.after = page.next;
        if part.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["e4", "e3", "e2", "e1", "e0"]);
    store.close().await;
}

#[tokio::test]
async fn what_is_over_is_deleted_and_nothing_else() {
    let home = Home::new();
    let store = home.open();
    let ends = [
        ("past", Some(-1)),
        ("now", Some(0)),
        ("later", Some(600_000)),
        ("never", None),
    ];
    for (n, (entry, until)) in ends.into_iter().enumerate() {
        let added = changed("vip", entry, ListAction::Added, until);
        record(&store, &number_of(n), "x", added, -10).await;
    }
    store.expire_list_entries().await.unwrap();
    let left = store.list_entries().await.unwrap();
    assert_eq!(places(&left), [("vip", "later"), ("vip", "never")]);
    store.close().await;
}

#[tokio::test]
async fn a_person_who_is_erased_stays_blocked_by_a_hash_and_nothing_else_is_left_anywhere() {
    let home = Home::new();
    let store = home.open();
    filled(&store).await;
    let blocks = ["blocked".to_owned()];
    let caller = Caller::classify(CALLER);
    let known = store.known_of(&caller, &blocks).await.unwrap().unwrap();
    assert_eq!(
        (known.known, known.list_entries, known.blocks),
        (true, 1, 1)
    );
    let erased = store.erase(&caller, &blocks).await.unwrap().unwrap();
    assert_eq!(
        (erased.erased, erased.list_entries, erased.blocks),
        (true, 1, 1)
    );
    assert!(erased.wal_emptied);
    let left = store.list_entries().await.unwrap();
    assert_eq!(
        places(&left),
        [("blocked", "b1"), ("vip", "v2"), ("blocked", "b2")]
    );
    assert_eq!(
        left[0].hash,
        hash(&store, CALLER),
        "who is blocked stays blocked"
    );
    let block = store.list_entry("blocked", "b1").await.unwrap().unwrap();
    assert_eq!((block.number, block.why), (None, None));
    let records = verified(&store).await;
    let last = records.last().unwrap();
    assert_eq!(last.kind, "caller_erased");
    assert!(
        last.detail.ends_with(r#""list_entries":1,"blocks":1}"#),
        "{}",
        last.detail
    );
    let log = store.records(0, 10).await.unwrap();
    assert!(log[0].personal.as_ref().unwrap().is_erased());
    assert!(log[1].personal.as_ref().unwrap().is_erased());
    assert_eq!(
        log[2].personal.as_ref().unwrap().caller.as_deref(),
        Some(OTHER)
    );
    let again = store.erase(&caller, &blocks).await.unwrap().unwrap();
    assert!(!again.erased, "{again:?}");
    assert_eq!(store.altered_rows(), None);

    // Neither the database nor a copy of it names the person.
    let copied = home.folder.path().join("copy.db");
    copy::back_up(
        &home.path(),
        &copied,
        &key_ring(),
        || at(0),
        |_| {},
        &mut |_, _, _| {},
    )
    .unwrap();
    let raw = number(CALLER).as_str()[1..].parse::<u64>().unwrap();
    for form in [
        CALLER.as_bytes()[1..].to_vec(),
        hex::encode(&CALLER[1..]).into_bytes(),
        raw.to_be_bytes().to_vec(),
        raw.to_le_bytes().to_vec(),
    ] {
        assert!(!holds(&home, &form), "{form:?}");
    }
    // A block is lifted like any other entry, although nobody knows whose it is.
    let lifted = Event::ListChanged(changed("blocked", "b1", ListAction::Removed, None));
    store
        .append(vec![Record::of_service(at(1), lifted)])
        .await
        .unwrap();
    assert_eq!(entries_of(&store, "blocked").await.len(), 1);
    store.close().await;
    assert_eq!(altered(&home, &key_ring()), [""; 0]);
}

#[tokio::test]
async fn where_no_list_blocks_nothing_of_a_person_stays_not_even_the_hash() {
    let home = Home::new();
    let store = home.open();
    filled(&store).await;
    let hash = hash(&store, CALLER);
    store.empty_wal().await.unwrap();
    assert!(holds(&home, &hash));
    let caller = Caller::classify("sip:+4915112345650@pbx.example.com");
    let erased = store.erase(&caller, &[]).await.unwrap().unwrap();
    assert_eq!((erased.list_entries, erased.blocks), (2, 0));
    assert!(!holds(&home, &hash), "the keyed hash is still in a file");
    assert_eq!(store.list_entries().await.unwrap().len(), 2);
    store.close().await;
}

#[tokio::test]
async fn a_caller_on_a_list_outlives_retention() {
    let home = Home::new();
    let store = home.open();
    add(&store, "vip", "v1", CALLER, "the mayor").await;
    let due = store
        .ask(|reader| Ok(crate::store::callers::due(reader, i64::MAX, 10)?))
        .await;
    assert!(due.unwrap().is_empty());
    let removed = changed("vip", "v1", ListAction::Removed, None);
    record(&store, CALLER, "", removed, 1).await;
    let due = store
        .ask(|reader| Ok(crate::store::callers::due(reader, i64::MAX, 10)?))
        .await;
    assert_eq!(due.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_row_that_was_changed_is_not_used_and_told() {
    for sql in [
        "UPDATE list_entries SET list = 'vip' WHERE name = 'b1'",
        "UPDATE list_entries SET until_at = 1 WHERE name = 'b1'",
        "UPDATE list_entries SET identity_hash = randomblob(16) WHERE name = 'b1'",
        "INSERT INTO list_entries (name, list, identity_hash, added_by, created_at, updated_at)
         VALUES ('planted', 'vip', zeroblob(16), 'ops', 1, 1)",
    ] {
        let home = Home::new();
        let store = home.open();
        add(&store, "blocked", "b1", CALLER, "shouts a lot").await;
        add(&store, "blocked", "b2", OTHER, "sells things").await;
        store.close().await;
        home.intruder().execute_batch(sql).unwrap();
        let found = altered(&home, &key_ring());
        assert!(
            matches!(found.as_slice(), [one] if one.contains("list_entries")),
            "{sql}: {found:?}"
        );
        let store = home.open();
        let left = store.list_entries().await.unwrap();
        let is_planted = sql.starts_with("INSERT");
        assert_eq!(left.len(), if is_planted { 2 } else { 1 }, "{sql}");
        assert!(
            store.altered_rows().unwrap().contains("list_entries"),
            "{sql}"
        );
        store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_outlives_a_rotation_after_which_nobody_could_hash_its_number() {
    let home = Home::new();
    let store = home.open();
    filled(&store).await;
    let blocks = ["blocked".to_owned()];
    store
        .erase(&Caller::classify(CALLER), &blocks)
        .await
        .unwrap();
    let before = hash(&store, CALLER);
    store.key_ring().rotate_to(b"another secret of this test");
    let rotation = Rotation::new(store.clone(), true);
    rotation
        .begin("another secret of this test", "ops")
        .await
        .unwrap();
    rotation.run(|_, _| {}).await.unwrap();
    store.close().await;
    let key_ring = KeyRing::new(b"another secret of this test");
    assert_eq!(altered(&home, &key_ring), [""; 0]);
    let options = Options {
        key_ring,
        ..home.options()
    };
    let store = Store::open(&options).unwrap();
    assert_eq!(hash(&store, CALLER), before);
    let left = store.list_entries().await.unwrap();
    assert_eq!(
        places(&left),
        [("blocked", "b1"), ("vip", "v2"), ("blocked", "b2")]
    );
    let other = store.list_entry("vip", "v2").await.unwrap().unwrap();
    assert_eq!(other.number, Some(number(OTHER)));
    store.close().await;
}
