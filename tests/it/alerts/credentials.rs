//! Credentials that a service refuses: tried again by themselves, told when that does not help, and never left to a person alone.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::Value;
use switchboard::admin;
use switchboard::clock::Clock;
use switchboard::handoff::{Failure, FailureKind, Outcome};
use switchboard::routing::DialerId;
use switchboard_simulator::faults::{Fault, Faults, Route};
use switchboard_simulator::requests::{Request, Requests};
use switchboard_simulator::smtp::Message;

use super::{Office, Server};
use crate::world::{COLD, HOT, STRANGER, Settings, World};

/// Somebody whom Braze has not been asked for yet.
const NEWCOMER: &str = "+491700000002";

/// The four services that answer for callers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Service {
    Dialfire,
    Zendesk,
    Http,
    Braze,
}

use Service::{Braze, Dialfire, Http, Zendesk};

const ALL: [Service; 4] = [Dialfire, Zendesk, Http, Braze];

impl Service {
    fn name(self) -> &'static str {
        match self {
            Dialfire => "dialfire",
            Zendesk => "zendesk",
            Http => "other",
            Braze => "braze",
        }
    }

    /// Which credential people are told of.
    fn credential(self) -> &'static str {
        match self {
            Dialfire => "the campaign token (dialers.dialfire.token)",
            Zendesk => "e-mail and API token (dialers.zendesk.email, dialers.zendesk.token)",
            Http => "the headers (dialers.other.headers)",
            Braze => "the API key (braze.api_key)",
        }
    }

    /// A caller for whom it is asked first.
    fn caller(self) -> &'static str {
        match self {
            Dialfire => HOT,
            Zendesk => STRANGER,
            Http => COLD,
            Braze => NEWCOMER,
        }
    }

    fn faults(self, world: &World) -> &Faults {
        match self {
            Dialfire => world.outside.dialfire.faults(),
            Zendesk => world.outside.zendesk.faults(),
            Http => world.outside.http_dialer.faults(),
            Braze => world.outside.braze.faults(),
        }
    }

    fn requests(self, world: &World) -> &Requests {
        match self {
            Dialfire => world.outside.dialfire.requests(),
            Zendesk => world.outside.zendesk.requests(),
            Http => world.outside.http_dialer.requests(),
            Braze => world.outside.braze.requests(),
        }
    }

    fn path(self) -> String {
        match self {
            Braze => "/api/v1/lookup".to_owned(),
            Dialfire | Zendesk | Http => format!("/api/v1/dialers/{}", self.name()),
        }
    }
}

/// An office with three dialers, whose mail server waits for mail.
struct Scene {
    office: Office,
    clock: Clock,
}

impl Scene {
    async fn new() -> Self {
        let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
        let office = Office::in_a_world(Server::Plain, &["ops@example.com"], "", |settings| {
            Settings {
                clock: clock.clone(),
                sections: format!(
                    "{}\n[dialers.other]\nkind = \"http\"\nconnect = \"+4930900700\"\nurl = \"HTTP_SERVER/calls\"\n\
                     health_url = \"HTTP_SERVER/health\"\nprobe_every = \"1h\"\nheaders = {{ X-Key = \"made-up-http-key\" }}\n\
                     body = {{ phone_number = \"{{caller}}\" }}\n\
                     [[routing.rules]]\nname = \"others\"\ntier = [\"cold\"]\ndialers = [\"other\", \"zendesk\"]\n",
                    settings.sections
                ),
                ..settings
            }
        })
        .await;
        let scene = Self { office, clock };
        // The probes of the start come first.
        for service in [Dialfire, Zendesk, Http] {
            service.requests(&scene.office.world).reached(1).await;
        }
        scene
    }

    fn world(&self) -> &World {
        &self.office.world
    }

    /// Calls until the service has had one more request that is no probe: on a slow machine a caller's score may come too late to lead there.
    async fn call_for(&self, service: Service) {
        let n_requests = || {
            let requests = service.requests(self.world()).all();
            let of_callers = |one: &&Request| one.method == "POST" && !one.mentions("probe");
            requests.iter().filter(of_callers).count()
        };
        let before = n_requests();
        for _ in 0..20 {
            self.world().call(service.caller()).await;
            if n_requests() > before {
                return;
            }
        }
        panic!("no call comes to {service:?}");
    }

    /// A call, for which the service answers 401.
    async fn refused(&self, service: Service) {
        self.call_for(service).await;
        let incident = self.incident(service, |one| one["status"] == "open").await;
        assert_eq!(incident["status"], "open", "{incident:#}");
        let cause = incident["cause"].as_str().unwrap();
        let named = format!("{} refuses {}: ", service.name(), service.credential());
        assert!(cause.starts_with(&named), "{cause}");
    }

    /// The newest incident about credentials of this service, when it is so.
    async fn incident(&self, service: Service, is_so: impl Fn(&Value) -> bool) -> Value {
        let of_service =
            |one: &&Value| one["kind"] == "credentials_refused" && one["dialer"] == service.name();
        let find = async || {
            let history = self.office.get("/api/v1/alerts/history").await;
            history["data"]
                .as_array()
                .unwrap()
                .iter()
                .find(of_service)
                .cloned()
        };
        eventually(find, |found| found.as_ref().is_some_and(&is_so))
            .await
            .unwrap()
    }

    /// How the API shows the service, when it is so.
    async fn shown(&self, service: Service, is_so: impl Fn(&Value) -> bool) -> Value {
        let get = async || self.office.get(&service.path()).await["data"].clone();
        eventually(get, is_so).await
    }

    async fn is_well(&self, service: Service) {
        let shown = self
            .shown(service, |shown| shown["state"] == "closed")
            .await;
        assert_eq!(shown["refused"], Value::Null, "{shown:#}");
    }

    /// Refused so often by now, and to be tried in so many seconds.
    async fn is_refused(&self, service: Service, times: u64, seconds: i64) {
        let shown = self
            .shown(service, |shown| shown["refused"]["times"] == times)
            .await;
        let next_try = shown["refused"]["next_try_at"].as_str().unwrap();
        let next_try: Timestamp = next_try.parse().unwrap();
        let rest = next_try.duration_since(self.clock.now());
        assert_eq!(rest, SignedDuration::from_secs(seconds), "{shown:#}");
    }

    async fn restart(&mut self) {
        self.office.world.stop().await;
        self.office.world.start().await;
    }

    async fn act(&self, path: &str) -> Value {
        let (status, answer) = self.office.ask(Method::POST, path).await;
        assert_eq!(status, 200, "{answer:#}");
        answer["data"].clone()
    }

    fn asked(&self, service: Service) -> u64 {
        service.requests(self.world()).count()
    }

    /// The subjects of mails about credentials.
    fn mails(&self) -> Vec<String> {
        let mails = self.world().outside.smtp.messages();
        let subjects = mails.iter().map(Message::subject);
        subjects
            .filter(|subject| subject.contains("our credentials"))
            .collect()
    }

    /// The same, when there are so many.
    async fn mailed(&self, count: usize) -> Vec<String> {
        let mails = eventually(async || self.mails(), |mails| mails.len() >= count).await;
        assert_eq!(mails.len(), count, "{mails:?}");
        mails
    }
}

/// Asks again and again until it is so; after a minute it is what it is.
async fn eventually<T>(get: impl AsyncFn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    for _ in 0..1_200 {
        let got = get().await;
        if is_so(&got) {
            return got;
        }
        Clock::system().wait(Duration::from_millis(50)).await;
    }
    get().await
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One dialer always takes calls, and callers who are known already need no look-up.
const GROUPS: [&[Service]; 2] = [&[Dialfire, Zendesk, Braze], &[Http]];

#[tokio::test]
async fn one_401_is_over_at_the_next_try_by_one_request_and_nobody_is_mailed() {
    for (group, status) in GROUPS.into_iter().zip([401, 403]) {
        let scene = Scene::new().await;
        for service in group {
            service
                .faults(scene.world())
                .once_on(Route::method("POST"), Fault::status(status));
            scene.refused(*service).await;
            scene.is_refused(*service, 1, 30).await;
        }
        let asked: Vec<_> = group.iter().map(|service| scene.asked(*service)).collect();
        scene.clock.advance(s(30));
        for service in group {
            scene.is_well(*service).await;
            let over = scene
                .incident(*service, |one| one["status"] == "resolved")
                .await;
            assert_eq!(over["messages"], Value::Array(Vec::new()), "{over:#}");
        }
        for (service, asked) in group.iter().zip(asked) {
            assert_eq!(scene.asked(*service), asked + 1, "{service:?}");
        }
        // The next caller is served as if nothing had been.
        for service in group.iter().filter(|service| **service != Braze) {
            scene.call_for(*service).await;
        }
        assert_eq!(scene.mails(), [""; 0]);
    }
}

#[tokio::test]
async fn dialers_that_have_all_refused_credentials_once_are_no_outage_before_a_further_try() {
    let scene = Scene::new().await;
    let fleet = &scene.world().running().fleet;
    let failure = Failure::with_status(FailureKind::Unauthorized, 401);
    for service in [Dialfire, Zendesk, Http] {
        let id = DialerId::new(service.name());
        fleet.report(&id, &Outcome::Refused { failure }, scene.clock.instant());
    }
    let incidents = scene.world().running().incidents();
    for _ in 0..10 {
        incidents.look_around(scene.clock.instant());
        scene.clock.advance(s(1));
    }
    assert!(!incidents.is_routing_paused());
    for service in [Dialfire, Zendesk, Http] {
        service.faults(scene.world()).standing(Fault::status(401));
    }
    scene.clock.advance(s(20));
    for service in [Dialfire, Zendesk, Http] {
        scene.is_refused(service, 2, 60).await;
    }
    for _ in 0..4 {
        incidents.look_around(scene.clock.instant());
        scene.clock.advance(s(1));
    }
    assert!(incidents.is_routing_paused());
}

#[tokio::test]
async fn what_is_refused_again_at_the_next_try_is_mailed_then_and_tried_less_and_less_often() {
    for service in ALL {
        let scene = Scene::new().await;
        service.faults(scene.world()).standing(Fault::status(401));
        scene.refused(service).await;
        let mut asked = scene.asked(service);
        for (n, (pause, next)) in
            (2..).zip([(30, 60), (60, 120), (120, 240), (240, 300), (300, 300)])
        {
            assert_eq!(scene.mails().len(), usize::from(n > 2));
            scene.clock.advance(s(pause));
            scene.is_refused(service, n, next).await;
            asked += 1;
            assert_eq!(scene.asked(service), asked, "one request per try");
            let subject = scene.mailed(1).await[0].to_lowercase();
            let refuses = format!("] {} refuses our credentials", service.name());
            assert!(subject.ends_with(&refuses), "{subject}");
        }
        let incident = scene.incident(service, |_| true).await;
        assert_eq!(
            incident["messages"][0]["occasion"], "opened",
            "{incident:#}"
        );
        service.faults(scene.world()).clear();
        scene.clock.advance(s(300));
        scene.is_well(service).await;
        // It has to stay well for a minute before that is mailed.
        let moved = async || {
            scene.clock.advance(s(10));
            scene.mails()
        };
        let mails = eventually(moved, |mails| mails.len() > 1).await;
        assert!(mails[1].contains("Resolved: "), "{mails:?}");
    }
}

#[tokio::test]
async fn a_restart_between_a_401_and_its_try_changes_nothing() {
    let mut scene = Scene::new().await;
    let services = [Dialfire, Zendesk, Braze];
    for service in services {
        service
            .faults(scene.world())
            .once_on(Route::method("POST"), Fault::status(401));
        scene.refused(service).await;
    }
    let written = async || scene.world().running().store.dialer_states().await.unwrap();
    eventually(written, |states| {
        states.iter().any(|one| one.service == "braze")
    })
    .await;
    // One of them refuses the try as well.
    Zendesk.faults(scene.world()).standing(Fault::status(401));
    let asked = services.map(|service| scene.asked(service));
    scene.clock.advance(s(10));
    scene.restart().await;
    for service in services {
        scene.is_refused(service, 1, 20).await;
        let incident = scene.incident(service, |_| true).await;
        assert_eq!(incident["status"], "open", "{incident:#}");
    }
    scene.clock.advance(s(20));
    for service in [Dialfire, Braze] {
        scene.is_well(service).await;
        let over = scene
            .incident(service, |one| one["status"] == "resolved")
            .await;
        assert_eq!(over["messages"], Value::Array(Vec::new()), "{over:#}");
    }
    scene.is_refused(Zendesk, 2, 60).await;
    let tried = services.map(|service| scene.asked(service));
    assert_eq!(
        tried,
        asked.map(|n| n + 1),
        "the start itself asks none of them"
    );
    assert!(
        scene.office.mails(1).await[0]
            .subject()
            .contains("Zendesk refuses")
    );

    // That it was told is known after another restart, too.
    scene.clock.advance(s(5));
    scene.restart().await;
    scene.is_refused(Zendesk, 2, 55).await;
    scene.clock.advance(s(55));
    scene.is_refused(Zendesk, 3, 120).await;
    assert_eq!(scene.mails().len(), 1);
}

#[tokio::test]
async fn a_good_test_a_resume_a_reload_or_whoever_asks_has_it_tried_at_once() {
    let scene = Scene::new().await;
    let once = || Fault::status(401);
    for path in ["retry", "resume", "test"] {
        Dialfire
            .faults(scene.world())
            .once_on(Route::method("POST"), once());
        scene.refused(Dialfire).await;
        let shown = scene.act(&format!("/api/v1/dialers/dialfire/{path}")).await;
        if path == "retry" {
            assert_eq!(
                (&shown["state"], &shown["refused"]),
                (&"closed".into(), &Value::Null)
            );
        }
        scene.is_well(Dialfire).await;
        // A caller whom it takes ends the count.
        scene.call_for(Dialfire).await;
        scene
            .incident(Dialfire, |one| one["status"] == "resolved")
            .await;
        scene.clock.advance(s(1));
    }
    Braze
        .faults(scene.world())
        .once_on(Route::method("POST"), once());
    scene.refused(Braze).await;
    let shown = scene.act("/api/v1/lookup/retry").await;
    assert_eq!(
        (&shown["state"], &shown["refused"]),
        (&"closed".into(), &Value::Null)
    );
    scene
        .incident(Braze, |one| one["status"] == "resolved")
        .await;
    assert_eq!(scene.mails(), [""; 0]);

    // What is still refused is told in the answer, and by mail.
    Zendesk.faults(scene.world()).standing(once());
    scene.refused(Zendesk).await;
    let shown = scene.act("/api/v1/dialers/zendesk/retry").await;
    assert_eq!(
        (&shown["state"], &shown["refused"]["times"]),
        (&"open".into(), &2.into())
    );
    let asked = scene.asked(Zendesk);
    assert_eq!(
        scene.act("/api/v1/dialers/dialfire/retry").await["state"],
        "closed"
    );
    assert_eq!(scene.asked(Zendesk), asked);
    scene.mailed(1).await;
    let (status, _) = scene
        .office
        .ask(Method::POST, "/api/v1/dialers/nobody/retry")
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_reload_of_the_same_credentials_has_all_of_them_tried() {
    let refusing = [Dialfire, Zendesk, Braze];
    let mut scene = Scene::new().await;
    for service in refusing {
        service
            .faults(scene.world())
            .once_on(Route::method("POST"), Fault::status(403));
        scene.refused(service).await;
    }
    let settings = scene.world().settings();
    scene.office.world.reload(settings).await;
    for service in refusing {
        scene.is_well(service).await;
    }
    assert_eq!(scene.mails(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_retry_and_test_dialer_have_the_running_server_try_it() {
    let scene = Scene::new().await;
    let world = scene.world();
    for (arguments, service) in [
        (["retry", "zendesk", "--json"], Zendesk),
        (["test-dialer", "zendesk", "--json"], Zendesk),
        (["retry", "--braze", "--json"], Braze),
    ] {
        service
            .faults(world)
            .once_on(Route::method("POST"), Fault::status(401));
        scene.call_for(service).await;
        scene.is_refused(service, 1, 30).await;
        let output = world.command(&arguments).await;
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said:#}");
        if arguments[0] == "retry" {
            assert_eq!(said["service"], service.name());
            assert_eq!(
                (&said["was_refused"], &said["ok"]),
                (&true.into(), &true.into())
            );
        }
        scene.is_well(service).await;
        // A caller whom it takes ends the count.
        scene.call_for(Zendesk).await;
        scene.clock.advance(s(1));
    }
    let output = world.command(&["retry", "zendesk"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text,
        "zendesk: its credentials are not refused; there is nothing to try\n"
    );
    let output = world.command(&["retry", "nobody"]).await;
    assert_eq!(output.status.code(), Some(2));

    Zendesk.faults(world).standing(Fault::status(401));
    scene.call_for(Zendesk).await;
    scene.is_refused(Zendesk, 1, 30).await;
    let output = world.command(&["retry", "zendesk"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("zendesk: still refuses e-mail and API token"),
        "{text}"
    );
    let database = world.database();
    let asked = tokio::task::spawn_blocking(move || {
        let request = admin::ControlRequest::Retry {
            dialer: Some("zendesk".to_owned()),
        };
        admin::ask(&database, &request, |_| {})
    });
    let document = asked.await.unwrap().unwrap();
    assert_eq!(document["ok"], false, "{document:#}");
}

#[tokio::test]
async fn where_braze_is_asked_for_nobody_a_probe_finds_out_that_it_fails_and_it_is_mailed() {
    let scene = Scene::new().await;
    Braze.faults(scene.world()).standing(Fault::status(500));
    let asked = scene.asked(Braze);
    scene.clock.advance(Duration::from_mins(5));
    for n in 1..=3 {
        Braze.requests(scene.world()).reached(asked + n).await;
        assert_eq!(scene.asked(Braze), asked + n);
        assert_eq!(scene.mails(), [""; 0]);
        if n < 3 {
            scene.clock.advance(Duration::from_mins(1));
        }
    }
    let mails = scene.office.mails(1).await;
    assert!(
        mails[0].parts()[0].contains("3 of 3"),
        "{:?}",
        mails[0].parts()
    );
    assert!(mails[0].subject().contains("Look-ups at Braze fail"));
    let last = Braze.requests(scene.world()).last().unwrap();
    assert!(last.mentions("__callrouter_probe__"));
}
