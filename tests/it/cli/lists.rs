//! Lists of callers by command: shown, changed, refused in words; a person who is erased is on none, and the files that still name them are.

use std::fs;

use switchboard_simulator::twilio::Call;

use super::Place;
use super::serve::Served;
use crate::world::{CALLED, COLD, HOT};

/// A place with a list that has a file, one of nobody, and one whose callers are turned away.
fn with_lists() -> Place {
    let place = Place::new();
    let lists = "[[routing.rules]]\nname = \"spam\"\nwhen = { list = \"spam\" }\nreject = \"busy\"\n\
        [routing.lists.vip]\nnumbers = [\"+44207*\"]\nfile = \"vip.txt\"\n\
        [routing.lists.press]\n[routing.lists.spam]\n";
    fs::write(place.path("vip.txt"), format!("{COLD} # a good one\n")).unwrap();
    place.configure(&format!("{}\n{lists}", place.text()));
    place
}

/// Whether the caller hears the busy tone.
async fn is_rejected(place: &Place) -> bool {
    let result = place.outside.twilio.call(Call::new(COLD, CALLED)).await;
    result.steps[0].body.contains("<Reject")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_put_on_a_list_shown_and_taken_off_by_command() {
    let place = with_lists();
    place.run(&["list", "show", "vip"]).await.exits(75);
    let served = Served::start(&place).await;
    let add = [
        "list",
        "add",
        "vip",
        "+49 170 0000-090",
        "--why",
        "the mayor",
        "--until",
        "30d",
    ];
    let added = place.run(&add).await.exits(0);
    assert!(
        added.stdout.starts_with("on vip: +**********90, by user "),
        "{added:?}"
    );
    assert!(added.stdout.contains(": the mayor"), "{added:?}");
    let again = place
        .run(&["list", "add", "vip", HOT, "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&again["new"], &again["until"]),
        (&false.into(), &().into()),
        "{again}"
    );
    let shown = place.run(&["list", "show", "vip"]).await.exits(0);
    assert!(
        shown.stdout.starts_with(
            "vip: 2 numbers in the configuration and vip.txt, 1 entries\n  +**********90, by "
        ),
        "{shown:?}"
    );
    assert!(!shown.stdout.contains(HOT), "{shown:?}");
    let full = place
        .run(&["list", "show", "vip", "--reveal", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(full["shown"][0]["number"], HOT, "{full}");

    for (arguments, code, words) in [
        (&["list", "show", "vips"][..], 2, "it has press, spam, vip"),
        (&["list", "add", "vip", "030123"], 2, "E.164"),
        (
            &["list", "add", "vip", HOT, "--until", "2020-01-01T00:00:00Z"],
            2,
            "in the future",
        ),
        (&["list", "remove", "press", HOT], 1, "no entry of press"),
        // What the file names is no entry.
        (&["list", "remove", "vip", COLD], 1, "no entry of vip"),
    ] {
        let ran = place.run(arguments).await.exits(code);
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
    let removed = place.run(&["list", "remove", "vip", HOT]).await.exits(0);
    assert_eq!(removed.stdout, "off vip: +**********90\n");
    place.run(&["list", "remove", "vip", HOT]).await.exits(1);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    let exported = place
        .run(&["audit", "export", "--format", "jsonl"])
        .await
        .exits(0)
        .stdout;
    let changed = exported
        .lines()
        .filter(|line| line.contains("\"list_changed\""));
    assert_eq!(changed.count(), 3);
    assert!(
        !exported.contains("the mayor") && !exported.contains(HOT),
        "{exported}"
    );
    assert!(
        exported.contains("switchboard list show"),
        "who saw the numbers is recorded"
    );
    // Somebody who never called is told what lists hold of them.
    let theirs = [
        "audit", "export", "--format", "jsonl", "--reveal", "--caller", HOT,
    ];
    let theirs = place.run(&theirs).await.exits(0).stdout;
    assert_eq!(theirs.matches("\"list_changed\"").count(), 3, "{theirs}");
    assert_eq!(theirs.lines().count(), 3, "{theirs}");
    let proof = [
        "audit", "export", "--format", "jsonl", "--proof", "--caller", HOT,
    ];
    let proof = place.run(&proof).await.exits(0).stdout;
    assert_eq!(
        proof.matches("\"kind\":\"list_changed\"").count(),
        3,
        "{proof}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_is_erased_is_on_no_list_and_files_that_name_them_are_told() {
    let place = with_lists();
    let served = Served::start(&place).await;
    place
        .run(&["list", "add", "vip", COLD, "--why", "the mayor"])
        .await
        .exits(0);
    place.run(&["list", "add", "press", COLD]).await.exits(0);
    assert!(!is_rejected(&place).await);
    place
        .run(&["list", "add", "spam", COLD, "--why", "sells things"])
        .await
        .exits(0);
    assert!(is_rejected(&place).await);
    let dry = ["erase", "--caller", COLD, "--dry-run", "--json"];
    let dry = place.run(&dry).await.exits(1).json();
    assert_eq!(
        (&dry["known"], &dry["list_entries"]),
        (&true.into(), &2.into()),
        "{dry}"
    );
    assert_eq!(dry["blocks"], 1, "{dry}");
    let ran = place.run(&["erase", "--caller", COLD]).await.exits(1);
    assert!(ran.stdout.contains("erased: 2 calls"), "{ran:?}");
    let on_lists = "2 entries of lists, 1 blocks that stay as keyed hashes";
    assert!(ran.stdout.contains(on_lists), "{ran:?}");
    assert!(
        ran.stderr.contains("vip.txt still names this number"),
        "{ran:?}"
    );
    let shown = place
        .run(&["list", "show", "vip", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(shown["entries"], 0, "{shown}");
    let spam = place
        .run(&["list", "show", "spam", "--reveal", "--json"])
        .await
        .exits(0)
        .json();
    let block = &spam["shown"][0];
    assert!(
        block["number"].is_null() && block["why"].is_null(),
        "{spam}"
    );
    // Whoever rings is somebody new, and turned away as before, also after a restart.
    assert!(is_rejected(&place).await);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    let served = Served::start(&place).await;
    assert!(is_rejected(&place).await);
    fs::write(place.path("vip.txt"), "# nobody\n").unwrap();
    let again = place
        .run(&["erase", "--caller", COLD, "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(again["named_in"], serde_json::json!([]), "{again}");
    place.run(&["backup", "after.db"]).await.exits(0);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    for entry in fs::read_dir(place.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.to_string_lossy().contains(".db") {
            let bytes = fs::read(&path).unwrap();
            for text in [&COLD[1..], "the mayor", "sells things"] {
                let at = bytes
                    .windows(text.len())
                    .position(|part| part == text.as_bytes());
                assert_eq!(at, None, "{text} in {}", path.display());
            }
        }
    }
    place.run(&["audit", "verify"]).await.exits(0);
}

#[tokio::test]
async fn a_line_of_a_list_that_is_no_number_is_told_with_its_place_and_not_with_what_it_says() {
    let place = with_lists();
    fs::write(place.path("vip.txt"), "+4930123456\n030 9876543\n").unwrap();
    let ran = place.run(&["check-config"]).await.exits(78);
    assert!(ran.stderr.contains("whose line 2 is no number"), "{ran:?}");
    assert!(!format!("{ran:?}").contains("9876543"), "{ran:?}");
}
