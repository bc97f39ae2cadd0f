//! The queue itself: a value that takes `now`.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::call::{CallId, Stamp};
use crate::resilience::Ramp;
use crate::routing::{self, DialerId, DialerView};
use crate::twiml::answer::HOLD_PAUSE;

/// More callers than this are not kept in order; they are held and tried all the same.
const MOST: usize = 10_000;
/// Three rounds of holding, message included. Whoever is not heard of for so long has hung up, and nobody told us.
const GONE_AFTER: Duration = Duration::from_secs(45);
/// How often callers who are gone are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Twilio counts pauses in whole seconds.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Callers in order of arrival, and how much each dialer may be given of them.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitQueue {
    callers: BTreeMap<Place, Waiter>,
    places: HashMap<CallId, Place>,
    slow_starts: HashMap<DialerId, Ramp>,
    n_entered: u64,
    swept: Option<Instant>,
}

/// Since when somebody waits, by the clock that nobody sets; of two who came in the same millisecond, the one who was noticed first comes first.
type Place = (u64, u64);

#[derive(Clone, Debug)]
struct Waiter {
    call_id: CallId,
    wanted: Vec<DialerId>,
    seen: Instant,
    /// Their turn has come and a dialer is being asked: they are in nobody's way.
    asking: bool,
}

/// What a caller who waits gets when they ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flow) struct QueueSlot {
    /// The dialers to ask, in order; empty where it is not this caller's turn, or where no dialer takes calls.
    pub(in crate::flow) plan: Vec<DialerId>,
    /// The dialers as this caller sees them.
    pub(in crate::flow) views: Vec<DialerView>,
    /// When to ask again, if this comes to nothing.
    pub(in crate::flow) pause: Duration,
}

impl WaitQueue {
    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }

    pub(super) fn contains(&self, call_id: &CallId) -> bool {
        self.places.contains_key(call_id)
    }

    /// How many callers wait for exactly these dialers, or for any with `None`, and since which uptime the first of them does.
    pub(super) fn who_waits(&self, wanted: Option<&[DialerId]>) -> (usize, Option<u64>) {
        let is_one = |waiter: &&Waiter| wanted.is_none_or(|wanted| waiter.wanted == wanted);
        let mut waiting = self.callers.iter().filter(|(_, waiter)| is_one(waiter));
        let first = waiting.next().map(|((since, _), _)| *since);
        (usize::from(first.is_some()) + waiting.count(), first)
    }

    pub(super) fn observe(&mut self, views: &[DialerView], now: Instant) {
        for view in views {
            let slow_start = self.slow_starts.entry(view.dialer.clone()).or_default();
            slow_start.observe(routing::intake(view), now);
        }
        let due = |swept: Instant| now.saturating_duration_since(swept) >= SWEEP_EVERY;
        if self.swept.is_none_or(due) {
            self.swept = Some(now);
            self.forget_the_gone(now);
        }
    }

    fn forget_the_gone(&mut self, now: Instant) {
        let places = &mut self.places;
        self.callers.retain(|_, waiter| {
            let stays = now.saturating_duration_since(waiter.seen) < GONE_AFTER;
            if !stays {
                places.remove(&waiter.call_id);
            }
            stays
        });
    }

    /// Takes a place, or is seen again at the old one.
    pub(super) fn enter(
        &mut self,
        call_id: &CallId,
        since: Stamp,
        wanted: &[DialerId],
        now: Instant,
    ) {
        let place = match self.places.get(call_id) {
            Some(place) => *place,
            None if self.callers.len() >= MOST => return,
            None => {
                self.n_entered += 1;
                (since.uptime_ms, self.n_entered)
            }
        };
        self.places.insert(call_id.clone(), place);
        let waiter = Waiter {
            call_id: call_id.clone(),
            wanted: wanted.to_vec(),
            seen: now,
            asking: false,
        };
        self.callers.insert(place, waiter);
    }

    pub(super) fn restore(
        &mut self,
        call_id: &CallId,
        since: Stamp,
        wanted: &[DialerId],
        now: Instant,
    ) {
        self.enter(call_id, since, wanted, now);
        for dialer in wanted {
            self.slow_starts.insert(dialer.clone(), Ramp::shut());
        }
    }

    pub(super) fn leave(&mut self, call_id: &CallId) {
        if let Some(place) = self.places.remove(call_id) {
            self.callers.remove(&place);
        }
    }

    /// A slow start limits those who wait, and those who would bypass them; where no caller waits, it limits none.
    pub(super) fn seen_by_arrival(
        &mut self,
        mut views: Vec<DialerView>,
        now: Instant,
    ) -> Vec<DialerView> {
        self.observe(&views, now);
        for view in &mut views {
            let Some((ahead, wait)) = self.wait(&view.dialer, None, now) else {
                continue;
            };
            if ahead > 0 && !wait.is_zero() {
                view.callers_first = Some(ahead);
            }
        }
        self.keep_room_for_those_before(&mut views, None);
        views
    }

    /// Where a dialer has room for few more calls, those who wait come first, in their order.
    fn keep_room_for_those_before(&self, views: &mut [DialerView], place: Option<Place>) {
        for view in views {
            if let Some(room) = view.room() {
                let before = self
                    .before(place)
                    .filter(|waiter| waiter.wanted.contains(&view.dialer));
                let ahead = u64::try_from(before.count()).unwrap_or(u64::MAX);
                if ahead >= room {
                    view.callers_first = view.callers_first.max(Some(ahead));
                }
            }
        }
    }

    pub(super) fn bypass(&mut self, plan: &[DialerId]) {
        if !self.callers.is_empty() {
            self.admit(plan);
        }
    }

    pub(super) fn next_slot(
        &mut self,
        call_id: &CallId,
        since: Stamp,
        wanted: &[DialerId],
        mut views: Vec<DialerView>,
        now: Instant,
    ) -> QueueSlot {
        self.observe(&views, now);
        self.enter(call_id, since, wanted, now);
        let place = self.places.get(call_id).copied();
        let mut pause = HOLD_PAUSE;
        for view in views.iter_mut().filter(|v| wanted.contains(&v.dialer)) {
            let Some((ahead, wait)) = self.wait(&view.dialer, place, now) else {
                continue;
            };
            if !wait.is_zero() {
                view.callers_first = Some(ahead);
                pause = pause.min(wait.max(SHORTEST_PAUSE));
            }
        }
        self.keep_room_for_those_before(&mut views, place);
        let may = |dialer: &&DialerId| routing::admissible(dialer, &views).is_ok();
        let plan: Vec<DialerId> = wanted.iter().filter(may).cloned().collect();
        if plan.is_empty() {
            return QueueSlot { plan, views, pause };
        }
        self.admit(&plan);
        if let Some(waiter) = place.and_then(|place| self.callers.get_mut(&place)) {
            waiter.asking = true;
        }
        QueueSlot {
            plan,
            views,
            pause: HOLD_PAUSE,
        }
    }

    /// How many wait for a dialer before this place, or before the end of the queue, and how long that takes. `None` where the dialer takes
    /// no call at all, or limits nobody.
    fn wait(
        &self,
        dialer: &DialerId,
        place: Option<Place>,
        now: Instant,
    ) -> Option<(u64, Duration)> {
        let slow_start = self
            .slow_starts
            .get(dialer)
            .filter(|slow_start| !slow_start.is_open())?;
        // Nobody is counted while the dialer is down: that would be work for nothing, and for every caller.
        slow_start.wait(0, now)?;
        let ahead = self
            .before(place)
            .filter(|waiter| !waiter.asking && waiter.wanted.contains(dialer))
            .count();
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        Some((ahead, slow_start.wait(ahead, now)?))
    }

    /// Those who wait before this place, or all of them.
    fn before(&self, place: Option<Place>) -> impl Iterator<Item = &Waiter> {
        let is_before = move |other: &Place| place.is_none_or(|place| *other < place);
        let callers = self.callers.iter();
        callers
            .take_while(move |(other, _)| is_before(other))
            .map(|(_, waiter)| waiter)
    }

    /// A plan is asked from its beginning, but who of it takes the call is not known yet: it counts at each.
    fn admit(&mut self, plan: &[DialerId]) {
        for dialer in plan {
            if let Some(slow_start) = self.slow_starts.get_mut(dialer) {
                slow_start.admit();
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::routing::BreakerView;

    const ZERO: Duration = Duration::ZERO;

    /// A queue at which dialers `a` and `b` are waited for, and a time that passes by hand.
    struct Scene {
        queue: WaitQueue,
        now: Instant,
        a: BreakerView,
        b: BreakerView,
    }

    impl Scene {
        /// Both dialers are down, and so many callers wait for both.
        fn down(n_callers: u32) -> Self {
            let mut scene = Self {
                queue: WaitQueue::default(),
                now: Instant::now(),
                a: BreakerView::Open,
                b: BreakerView::Open,
            };
            for n in 0..n_callers {
                assert_eq!(scene.ask(n), None);
            }
            scene
        }

        fn views(&self) -> Vec<DialerView> {
            let view = |name: &str, breaker| DialerView {
                breaker,
                ..DialerView::well(DialerId::new(name))
            };
            vec![view("a", self.a), view("b", self.b)]
        }

        fn slot(&mut self, n: u32) -> QueueSlot {
            let views = self.views();
            let (call_id, since, wanted) = (call(n), arrival(n), wanted());
            self.queue
                .next_slot(&call_id, since, &wanted, views, self.now)
        }

        /// The first dialer that caller `n` may ask.
        fn ask(&mut self, n: u32) -> Option<String> {
            self.slot(n).plan.first().map(ToString::to_string)
        }

        /// Caller `n` asks, and a dialer takes the call.
        fn served(&mut self, n: u32) -> bool {
            let may = self.ask(n).is_some();
            if may {
                self.queue.leave(&call(n));
            }
            may
        }

        fn arrival_sees(&mut self) -> Vec<Option<u64>> {
            let views = self.queue.seen_by_arrival(self.views(), self.now);
            views.iter().map(|view| view.callers_first).collect()
        }

        fn pass_time(&mut self, duration: Duration) {
            self.now += duration;
        }
    }

    fn call(n: u32) -> CallId {
        CallId::parse(&format!("CA{n}")).unwrap()
    }

    fn arrival(n: u32) -> Stamp {
        Stamp {
            at: Timestamp::UNIX_EPOCH,
            uptime_ms: 1_000 * u64::from(n),
        }
    }

    fn wanted() -> Vec<DialerId> {
        ["a", "b"].map(DialerId::new).to_vec()
    }

    #[test]
    fn a_dialer_on_trial_gets_the_first_in_line_and_nobody_else() {
        let mut scene = Scene::down(3);
        scene.a = BreakerView::HalfOpen;
        assert_eq!(scene.ask(2), None);
        assert_eq!(scene.ask(1), None);
        assert_eq!(scene.ask(0).as_deref(), Some("a"));
        assert_eq!(scene.ask(1), None, "the trial is under way");
    }

    #[test]
    fn callers_are_served_in_order_of_arrival_whoever_asks_first() {
        let mut scene = Scene::down(7);
        scene.a = BreakerView::Closed;
        let mut served = Vec::new();
        for _ in 0..3 {
            for n in (0..7).rev() {
                if scene.queue.contains(&call(n)) && scene.served(n) {
                    served.push(n);
                }
            }
            scene.pass_time(Duration::from_secs(1));
        }
        assert_eq!(served, [0, 2, 1, 6, 5, 4, 3], "one, then two, then four");
    }

    #[test]
    fn whoever_has_to_wait_is_told_when_to_come_back() {
        let mut scene = Scene::down(200);
        scene.a = BreakerView::Closed;
        let seconds = |scene: &mut Scene, n| scene.slot(n).pause.as_secs();
        assert_eq!(seconds(&mut scene, 1), 1);
        assert_eq!(seconds(&mut scene, 3), 2);
        assert_eq!(seconds(&mut scene, 15), 4);
        assert_eq!(seconds(&mut scene, 199), 5, "not later than anybody else");
        scene.a = BreakerView::Open;
        assert_eq!(seconds(&mut scene, 1), 5);
    }

    #[test]
    fn a_call_that_arrives_stands_behind_those_who_wait_until_the_ramp_is_over() {
        let mut scene = Scene::down(3);
        assert_eq!(scene.arrival_sees(), [None, None], "nobody takes calls");
        scene.a = BreakerView::Closed;
        assert_eq!(scene.arrival_sees(), [Some(3), None]);
        scene.pass_time(Duration::from_secs(10));
        assert_eq!(scene.arrival_sees(), [None, None]);
    }

    #[test]
    fn where_nobody_waits_no_arrival_is_held_back() {
        let mut scene = Scene::down(1);
        scene.a = BreakerView::Closed;
        assert_eq!(scene.arrival_sees(), [Some(1), None]);
        assert!(scene.served(0));
        assert_eq!(scene.arrival_sees(), [None, None]);
    }

    #[test]
    fn callers_wait_only_behind_those_who_want_the_same_dialer() {
        let mut scene = Scene::down(0);
        let only_b = [DialerId::new("b")];
        scene.queue.enter(&call(0), arrival(0), &only_b, scene.now);
        assert_eq!(scene.ask(1), None);
        scene.a = BreakerView::Closed;
        assert_eq!(scene.ask(1).as_deref(), Some("a"));
    }

    #[test]
    fn a_refused_caller_keeps_their_place() {
        let mut scene = Scene::down(2);
        scene.a = BreakerView::Closed;
        assert!(scene.ask(0).is_some());
        scene
            .queue
            .enter(&call(0), arrival(0), &wanted(), scene.now);
        scene.a = BreakerView::Open;
        assert_eq!(scene.ask(0), None);
        scene.a = BreakerView::Closed;
        assert_eq!(scene.ask(1), None);
        assert!(scene.ask(0).is_some());
    }

    #[test]
    fn a_caller_who_never_asks_again_is_forgotten_and_holds_up_nobody() {
        let mut scene = Scene::down(2);
        for _ in 0..9 {
            scene.pass_time(Duration::from_secs(5));
            assert_eq!(scene.ask(1), None);
        }
        assert!(!scene.queue.contains(&call(0)));
        assert_eq!(scene.queue.len(), 1);
        scene.a = BreakerView::Closed;
        assert!(scene.served(1));
    }

    #[test]
    fn after_a_restart_the_old_order_holds_and_the_dialers_are_spared() {
        let mut scene = Scene::down(0);
        scene.a = BreakerView::Closed;
        scene.b = BreakerView::Closed;
        for n in [2, 0, 1] {
            let (call_id, since) = (call(n), arrival(n));
            scene.queue.restore(&call_id, since, &wanted(), scene.now);
        }
        assert_eq!(scene.ask(1), None);
        assert!(scene.served(0));
        assert_eq!(scene.slot(2).pause, Duration::from_secs(1));
    }

    #[test]
    fn the_line_is_bounded_and_who_does_not_fit_comes_last() {
        let mut scene = Scene::down(0);
        let most = u32::try_from(MOST).unwrap();
        for n in 0..=most {
            scene
                .queue
                .enter(&call(n), arrival(n), &wanted(), scene.now);
        }
        assert_eq!(scene.queue.len(), MOST);
        assert_eq!(scene.ask(most), None);
        scene.a = BreakerView::Closed;
        assert_eq!(scene.ask(most), None);
        assert!(scene.ask(0).is_some());
        scene.pass_time(Duration::from_secs(10));
        assert!(scene.ask(most).is_some(), "the slow_start is over");
        assert_eq!(scene.arrival_sees(), [None, None]);
    }

    #[test]
    fn callers_who_leave_make_room() {
        let mut scene = Scene::down(3);
        for n in [0, 1] {
            scene.queue.leave(&call(n));
            scene.queue.leave(&call(n));
        }
        scene.a = BreakerView::HalfOpen;
        let turn = scene.slot(2);
        assert_eq!(turn.plan, [DialerId::new("a")]);
        assert_ne!(turn.pause, ZERO);
    }

    #[test]
    fn of_two_who_came_in_the_same_millisecond_the_first_to_be_noticed_comes_first() {
        let mut scene = Scene::down(0);
        for n in [7, 3] {
            let call_id = call(n);
            scene
                .queue
                .enter(&call_id, arrival(1), &wanted(), scene.now);
        }
        scene.a = BreakerView::HalfOpen;
        let mut ask = |n| {
            let views = scene.views();
            let (call_id, wanted) = (call(n), wanted());
            let turn = scene
                .queue
                .next_slot(&call_id, arrival(1), &wanted, views, scene.now);
            turn.plan
        };
        assert_eq!(ask(3), []);
        assert_eq!(ask(7), [DialerId::new("a")]);
    }
}
