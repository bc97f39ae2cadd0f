//! Commands of root in a folder of the service, whose user has put links there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use super::Place;

/// A user that is nobody on this machine.
const SERVICE: u32 = 64_200;
/// What commands make in the folder, or make on their way.
const NAMES: [&str; 14] = [
    "switchboard.db.lock",
    "switchboard.db.new",
    "switchboard.db.secret",
    "switchboard.db.spool",
    "switchboard.db.ballast",
    "switchboard.db.head.new",
    "switchboard.db.restored",
    "switchboard.db.backup.json",
    "switchboard.db.backup.json.new",
    "copy.db",
    "copy.db.part",
    "copy.db.part-journal",
    "copy.db.json",
    "copy.db.json.new",
];

/// A configuration of root's whose database lies in a folder of the service.
fn place() -> Place {
    let place = Place::new();
    place.reconfigure("switchboard.db", "state/switchboard.db");
    place.set_mode("", 0o711);
    fs::create_dir(place.path("state")).unwrap();
    chown(place.path("state"), Some(SERVICE), Some(SERVICE)).unwrap();
    place
}

async fn run_all(place: &Place) {
    for arguments in [
        &["migrate"][..],
        &["backup", "state/copy.db"],
        &["restore", "state/copy.db", "--force"],
        &["erase", "--caller", "+4915112345650", "--yes"],
        &["prune"],
        &["audit", "verify"],
    ] {
        // A command may fail here, and do nothing else.
        place.run(arguments).await;
    }
}

#[tokio::test]
#[expect(
    clippy::print_stderr,
    reason = "says by name that it is skipped: only root can be tried"
)]
async fn no_command_of_root_follows_a_link_in_the_folder_of_the_service() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "skipped: no_command_of_root_follows_a_link_in_the_folder_of_the_service needs root"
        );
        return;
    }
    let place_without = place();
    run_all(&place_without).await;
    let made: Vec<_> = fs::read_dir(place_without.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(made.len() > 5, "{made:?}");
    for path in made {
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.uid(), SERVICE, "{}", path.display());
    }
    for name in NAMES {
        let place = place();
        let precious = place.path("precious");
        fs::write(&precious, "precious").unwrap();
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&precious, place.path("state").join(name)).unwrap();
        run_all(&place).await;
        let after = fs::metadata(&precious).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious", "{name}");
        assert_eq!((after.uid(), after.mode() & 0o777), (0, 0o640), "{name}");
    }
}
