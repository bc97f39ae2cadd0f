//! When incidents open, who is notified of them, and when the summary of a day is made.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When incidents open, and who is notified.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertPolicy {
    pub rules: AlertRules,
    pub recipients: Vec<Recipient>,
    /// When the summary of a day is made, where it is.
    pub daily: Option<Daily>,
    /// By whose hours numbers are looked for that nobody calls; `None`: they are not.
    pub silence_zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlertRules {
    /// The share of routing failures, in percent of the calls of the window, above which an incident opens; 0 to 100.
    /// Default: 5.
    pub failure_percent: f64,
    /// The time that is looked back on; 10 s to 1 d. Default: 5 m.
    pub window: Duration,
    /// Fewer calls in the window open no incident. Default: 1.
    pub min_calls: u64,
    /// How often a reminder is sent while an incident stays open; 1 m to 7 d. Default: 1 h.
    pub repeat_every: Duration,
    /// The share of look-ups at Braze that fail, in percent, above which an incident opens; 0 to 100. Default: 5.
    pub braze_failure_percent: f64,
    /// Fewer look-ups that fail in the window open no incident. Default: 3.
    pub braze_min_failures: u64,
    /// The share of handoffs to one dialer that fail, in percent, above which an incident opens; 0 to 100. Default: 20.
    pub dialer_failure_percent: f64,
    /// Fewer requests to a dialer in the window open no incident. Default: 10.
    pub min_requests: u64,
    /// An incident opens where a caller on hold waits longer; up to 1 h. Default: none.
    pub waiting_longer_than: Option<Duration>,
}

impl Default for AlertRules {
    fn default() -> Self {
        Self {
            failure_percent: 5.0,
            window: Duration::from_mins(5),
            min_calls: 1,
            repeat_every: Duration::from_hours(1),
            braze_failure_percent: 5.0,
            braze_min_failures: 3,
            dialer_failure_percent: 20.0,
            min_requests: 10,
            waiting_longer_than: None,
        }
    }
}

/// Who is notified: one mail address, the receiver of the webhook, or a channel that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    Email(String),
    Webhook,
    Named(Channel, String),
}

impl Recipient {
    /// The channel that leads there.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Email(_) => Channel::Email,
            Self::Webhook => Channel::Webhook,
            Self::Named(channel, _) => *channel,
        }
    }

    /// Whether the summary of a day is sent there: it is no reason to page somebody.
    pub fn takes_summaries(&self) -> bool {
        self.channel() != Channel::Pagerduty
    }

    /// Reads what [`fmt::Display`] has written.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("email", address)) if !address.is_empty() => Some(Self::Email(address.into())),
            None if text == "webhook" => Some(Self::Webhook),
            Some((kind, name)) if !name.is_empty() => {
                let (_, channel) = Channel::NAMED.iter().find(|(word, _)| *word == kind)?;
                Some(Self::Named(*channel, name.into()))
            }
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(address) => write!(f, "email:{address}"),
            Self::Webhook => f.write_str("webhook"),
            Self::Named(channel, name) => write!(f, "{}:{name}", channel.as_str()),
        }
    }
}

impl Serialize for Recipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a recipient"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Channel {
    Email,
    Webhook,
    Slack,
    Teams,
    Pagerduty,
    Ntfy,
    /// Any other service that takes one POST.
    Http,
}

impl Channel {
    /// The kinds of `[alerts.channels.*]`, each with its word.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("slack", Self::Slack),
        ("teams", Self::Teams),
        ("pagerduty", Self::Pagerduty),
        ("ntfy", Self::Ntfy),
        ("http", Self::Http),
    ];

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// When the summary of a day is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Daily {
    pub at: Time,
    pub zone: TimeZone,
}

/// A day from one summary to the next: 24 hours, and 23 or 25 where the clocks are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// The date on which it ends. Names it.
    pub date: Date,
    pub from: Timestamp,
    /// Its end, which is not part of it.
    pub to: Timestamp,
}

impl Daily {
    /// The day that ended last. `None` at the ends of the calendar.
    pub fn last_day(&self, now: Timestamp) -> Option<Day> {
        let today = now.to_zoned(self.zone.clone()).date();
        let date = if self.moment(today)? <= now {
            today
        } else {
            today.yesterday().ok()?
        };
        Some(Day {
            date,
            from: self.moment(date.yesterday().ok()?)?,
            to: self.moment(date)?,
        })
    }

    /// The time of day on this date. A time that the clocks leave out is taken as late as they are advanced; of one that comes twice the first is
    /// taken.
    fn moment(&self, date: Date) -> Option<Timestamp> {
        let there = self.zone.to_ambiguous_timestamp(date.to_datetime(self.at));
        there.compatible().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_read_as_it_was_written() {
        for recipient in [
            Recipient::Email("ops@example.com".into()),
            Recipient::Webhook,
            Recipient::Named(Channel::Slack, "ops".into()),
            Recipient::Named(Channel::Http, "pager".into()),
        ] {
            assert_eq!(Recipient::parse(&recipient.to_string()), Some(recipient));
        }
        for wrong in [
            "",
            "email:",
            "fax:1",
            "webhook:",
            "webhook:a",
            "slack:",
            "ops@example.com",
        ] {
            assert_eq!(Recipient::parse(wrong), None, "{wrong}");
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn daily(time: &str, zone: &str) -> Daily {
        Daily {
            at: time.parse().unwrap(),
            zone: TimeZone::get(zone).unwrap(),
        }
    }

    /// What the day is that ended last, as `date from to`.
    fn last(daily: &Daily, now: &str) -> String {
        let Day { date, from, to } = daily.last_day(at(now)).unwrap();
        format!("{date} {from} {to}")
    }

    #[test]
    fn a_day_ends_at_its_time_and_not_before() {
        let utc = daily("07:00", "UTC");
        let yesterday = "2026-11-25 2026-11-24T07:00:00Z 2026-11-25T07:00:00Z";
        let today = "2026-11-26 2026-11-25T07:00:00Z 2026-11-26T07:00:00Z";
        for (now, day) in [
            ("2026-11-26T00:00:00Z", yesterday),
            ("2026-11-26T06:59:59.999Z", yesterday),
            ("2026-11-26T07:00:00Z", today),
            ("2026-11-26T23:59:59Z", today),
            ("2026-11-27T06:59:59Z", today),
        ] {
            assert_eq!(last(&utc, now), day, "{now}");
        }
        let midnight = daily("00:00", "UTC");
        assert_eq!(
            last(&midnight, "2026-01-01T00:00:00Z"),
            "2026-01-01 2025-12-31T00:00:00Z 2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn the_time_is_that_of_the_zone_whatever_the_season() {
        let berlin = daily("07:00", "Europe/Berlin");
        assert_eq!(
            last(&berlin, "2026-01-15T06:00:00Z"),
            "2026-01-15 2026-01-14T06:00:00Z 2026-01-15T06:00:00Z"
        );
        assert_eq!(
            last(&berlin, "2026-07-15T05:00:00Z"),
            "2026-07-15 2026-07-14T05:00:00Z 2026-07-15T05:00:00Z"
        );
        // Another date there than in UTC.
        let kiritimati = daily("07:00", "Pacific/Kiritimati");
        assert_eq!(
            last(&kiritimati, "2026-11-25T17:00:00Z"),
            "2026-11-26 2026-11-24T17:00:00Z 2026-11-25T17:00:00Z"
        );
        let kathmandu = daily("07:00", "Asia/Kathmandu");
        assert_eq!(
            last(&kathmandu, "2026-11-26T01:15:00Z"),
            "2026-11-26 2026-11-25T01:15:00Z 2026-11-26T01:15:00Z"
        );
    }

    #[test]
    fn a_day_on_which_the_clocks_change_has_an_hour_less_or_more() {
        let berlin = daily("07:00", "Europe/Berlin");
        let hours = |now: &str| {
            let day = berlin.last_day(at(now)).unwrap();
            day.to.duration_since(day.from).as_hours()
        };
        assert_eq!(hours("2026-03-28T12:00:00Z"), 24);
        assert_eq!(hours("2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("2026-03-30T12:00:00Z"), 24);
        assert_eq!(hours("2026-10-25T12:00:00Z"), 25);
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_or_repeat_comes_once() {
        let berlin = daily("02:30", "Europe/Berlin");
        // 02:30 does not exist on this day; the day ends an hour later by the clock.
        assert_eq!(
            last(&berlin, "2026-03-29T02:00:00Z"),
            "2026-03-29 2026-03-28T01:30:00Z 2026-03-29T01:30:00Z"
        );
        // It comes twice on this one: the first time ends the day, the second does not end another.
        let autumn = "2026-10-25 2026-10-24T00:30:00Z 2026-10-25T00:30:00Z";
        assert_eq!(last(&berlin, "2026-10-25T00:30:00Z"), autumn);
        assert_eq!(last(&berlin, "2026-10-25T01:30:00Z"), autumn);
        assert_eq!(last(&berlin, "2026-10-26T01:29:59Z"), autumn);
    }

    #[test]
    fn days_follow_each_other_without_a_gap_for_years() {
        for (time, zone) in [
            ("02:30", "Europe/Berlin"),
            ("00:00", "America/Sao_Paulo"),
            ("00:15", "Africa/Cairo"),
            ("23:59", "Australia/Lord_Howe"),
        ] {
            let daily = daily(time, zone);
            let mut day = daily.last_day(at("2024-01-01T12:00:00Z")).unwrap();
            for _ in 0..1_200 {
                let next = (0..)
                    .map(|hour| day.to + jiff::SignedDuration::from_hours(20 + hour))
                    .find_map(|now| daily.last_day(now).filter(|next| next.date != day.date))
                    .unwrap();
                assert_eq!(next.from, day.to, "{zone} {}", next.date);
                assert_eq!(next.date, day.date.tomorrow().unwrap(), "{zone}");
                day = next;
            }
        }
    }
}
