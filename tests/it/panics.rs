//! Panics of the product, where nobody would see them: caught by a handler's guard, in a task, in a thread.

use std::panic::{Location, PanicHookInfo};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::{self, ThreadId};

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

#[derive(Clone, Debug)]
struct Seen {
    thread: ThreadId,
    name: String,
    place: String,
    message: String,
}

/// The panics since a moment.
#[derive(Debug)]
pub(crate) struct Panics {
    before: usize,
}

impl Panics {
    /// From now on.
    pub(crate) fn watch() -> Self {
        HOOK.call_once(|| {
            let shown = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                seen().push(Seen::of(panic));
                shown(panic);
            }));
        });
        Self {
            before: seen().len(),
        }
    }

    /// What panicked: on this thread, where the appliance of this test runs, or on a thread that the product has made.
    ///
    /// A thread whose name holds `::` runs another test, which may fail without our help.
    pub(crate) fn of_the_product(&self) -> Vec<String> {
        let this = thread::current().id();
        seen()
            .iter()
            .skip(self.before)
            .filter(|seen| seen.thread == this || !seen.name.contains("::"))
            .map(|seen| format!("{} at {}", seen.message, seen.place))
            .collect()
    }
}

impl Seen {
    fn of(panic: &PanicHookInfo<'_>) -> Self {
        let thread = thread::current();
        Self {
            thread: thread.id(),
            name: thread.name().unwrap_or_default().to_owned(),
            place: panic
                .location()
                .map(Location::to_string)
                .unwrap_or_default(),
            message: panic.payload_as_str().unwrap_or_default().to_owned(),
        }
    }
}

fn seen() -> std::sync::MutexGuard<'static, Vec<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_panic_on_this_thread_or_a_thread_of_the_product_is_seen() {
    let panics = Panics::watch();
    assert_eq!(panics.of_the_product(), Vec::<String>::new());
    drop(std::panic::catch_unwind(|| panic!("here")));
    let named = thread::Builder::new().name("store".to_owned());
    let thread = named
        .spawn(|| panic!("there"))
        .map(thread::JoinHandle::join);
    assert!(thread.is_ok_and(|ended| ended.is_err()));
    let seen = panics.of_the_product();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(
        seen[0].starts_with("here at tests/it/panics.rs"),
        "{seen:?}"
    );
}
