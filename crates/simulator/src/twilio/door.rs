//! Drives the stand-in from another program: settings, calls at a rate, and what the callers heard, as JSON over HTTP.
//!
//! | request | does |
//! |---|---|
//! | `POST /settings` | changes `webhook_base`, `public_url`, `also_public`, `voice_path`, `fallback_path`, `status_path`, `fallback_after_actions`, `time_scale`, `own_numbers` |
//! | `POST /lines` | what lines do, by how their address begins: `{"+4930": "busy"}` |
//! | `POST /calls` | calls come in at random: `per_second`, for `seconds`, of the kinds in `mix` |
//! | `POST /stop` | no more of them |
//! | `GET /calls?after=N` | the calls that have ended, from the N-th on, and how many are in progress |
//!
//! A kind of call has a `name`, a `share`, the beginning of its callers' numbers (`from`), what its `lines` do (`"busy"`, `"no-answer"`, `"failed"`,
//! `{"ring_ms": 800, "talk_ms": 5000}`, `{"hang_up_ms": 900}`) for as long as there are any, and
//! `patience_ms`.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Call, CallResult, LineBehaviour, Outcome, Settings, Twilio, WebhookExchange};
use crate::callers::Callers;
use crate::chance::Chance;
use crate::http_server::{Answer, HttpServer};
use crate::requests::Request;

/// The number that is called where none is said.
const CALLED: &str = crate::made_up::CALLED;
/// Most results in one answer.
const PAGE: usize = 500;
/// Results that nobody gets are forgotten beyond this many, the oldest first.
const KEPT: usize = 100_000;
/// How often calls can be ordered before the first order is begun.
const ORDERS: usize = 16;

#[derive(Debug, Default)]
struct Ended {
    in_progress: usize,
    /// Which call the first of `results` is.
    first: usize,
    /// Those that nobody has got yet.
    results: VecDeque<Value>,
}

impl Ended {
    /// Those from the N-th on; whoever asks has got those before.
    fn page(&mut self, after: usize) -> Value {
        let known = after.saturating_sub(self.first).min(self.results.len());
        self.results.drain(..known);
        self.first += known;
        let calls: Vec<&Value> = self.results.iter().take(PAGE).collect();
        let next = self.first + calls.len();
        json!({ "next": next, "calls": calls, "in_progress": self.in_progress })
    }

    fn add(&mut self, result: Value) {
        self.in_progress -= 1;
        self.results.push_back(result);
        if self.results.len() > KEPT {
            self.results.pop_front();
            self.first += 1;
        }
    }
}

struct Door {
    twilio: Twilio,
    orders: mpsc::Sender<Order>,
    enough: watch::Sender<u64>,
    ended: Arc<Mutex<Ended>>,
}

struct Order {
    per_second: f64,
    length: Duration,
    to: String,
    mix: Vec<Kind>,
    seed: u64,
}

#[derive(Clone)]
struct Kind {
    name: String,
    share: f64,
    from: String,
    lines: Vec<LineBehaviour>,
    patience: Duration,
}

impl Twilio {
    /// Listens for orders on `address`; the future serves them, and makes the calls, until it is dropped. Gives the URL as well.
    pub fn open_door(
        &self,
        address: &str,
    ) -> io::Result<(String, impl Future<Output = ()> + Send + 'static + use<>)> {
        let server = HttpServer::bind(address)?;
        let (orders, mut ordered) = mpsc::channel(ORDERS);
        let door = Door {
            twilio: self.clone(),
            orders,
            enough: watch::Sender::new(0),
            ended: Arc::default(),
        };
        let (twilio, ended) = (self.clone(), Arc::clone(&door.ended));
        let (url, enough) = (server.url(), door.enough.subscribe());
        let serve = server.serve(move |request| {
            door.answer(request)
                .unwrap_or_else(|why| Answer::json(400, &json!({ "error": why })))
        });
        let make = async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    Some(order) = ordered.recv() => {
                        let mut enough = enough.clone();
                        enough.mark_unchanged();
                        running.spawn(order.run(twilio.clone(), Arc::clone(&ended), enough));
                    }
                    Some(_ended) = running.join_next() => {}
                }
            }
        };
        let both = async move {
            tokio::select! {
                () = serve => {}
                () = make => {}
            }
        };
        Ok((url, both))
    }
}

impl Door {
    fn answer(&self, request: &Request) -> Result<Answer, String> {
        let body = request.json().unwrap_or(Value::Null);
        match (request.method.as_str(), request.path()) {
            ("POST", "/settings") => {
                let mut settings = self.twilio.settings();
                change(&mut settings, &body)?;
                self.twilio.configure(|now| *now = settings);
                Ok(Answer::json(200, &json!({})))
            }
            ("POST", "/lines") => {
                let lines = body.as_object().ok_or("the body is no JSON object")?;
                for (prefix, does) in lines {
                    self.twilio.set_line(prefix, line(does)?);
                }
                Ok(Answer::json(200, &json!({})))
            }
            ("POST", "/calls") => {
                let seed = self.twilio.state().chance.bits();
                let order = Order::read(&body, seed)?;
                let sent = self.orders.try_send(order);
                sent.map_err(|_| "too many orders wait".to_owned())?;
                Ok(Answer::json(202, &json!({})))
            }
            ("POST", "/stop") => {
                self.enough.send_modify(|n| *n += 1);
                Ok(Answer::json(200, &json!({})))
            }
            ("GET", "/calls") => {
                let after = request.query("after").and_then(|text| text.parse().ok());
                Ok(Answer::json(
                    200,
                    &lock(&self.ended).page(after.unwrap_or(0)),
                ))
            }
            _ => Ok(Answer::json(404, &json!({ "error": "not found" }))),
        }
    }
}

fn change(settings: &mut Settings, body: &Value) -> Result<(), String> {
    let fields = body.as_object().ok_or("the body is no JSON object")?;
    for (name, value) in fields {
        let wrong = || format!("{name} cannot be {value}");
        let text = || value.as_str().map(str::to_owned);
        let base = || text().map(|url| url.trim_end_matches('/').to_owned());
        match name.as_str() {
            "webhook_base" => settings.webhook_base = base().ok_or_else(wrong)?,
            "public_url" => settings.public_url = base().ok_or_else(wrong)?,
            "voice_path" => settings.voice_path = text().ok_or_else(wrong)?,
            "fallback_path" => settings.fallback_path = text(),
            "status_path" => settings.status_path = text(),
            "fallback_after_actions" => {
                settings.fallback_after_actions = value.as_bool().ok_or_else(wrong)?;
            }
            "time_scale" => settings.time_scale = value.as_f64().ok_or_else(wrong)?,
            "own_numbers" => {
                let numbers = value.as_array().ok_or_else(wrong)?.iter();
                settings.own_numbers = numbers.filter_map(owned).collect();
            }
            "also_public" => {
                let pairs = value.as_object().ok_or_else(wrong)?.iter();
                settings.also_public = pairs
                    .filter_map(|(url, base)| Some((url.clone(), owned(base)?)))
                    .collect();
            }
            _ => return Err(format!("there is no setting {name}")),
        }
    }
    Ok(())
}

fn lock(ended: &Mutex<Ended>) -> MutexGuard<'_, Ended> {
    ended.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owned(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl Order {
    fn read(body: &Value, seed: u64) -> Result<Self, String> {
        let number = |name: &str| body[name].as_f64().filter(|number| *number > 0.0);
        let mix = body["mix"].as_array().ok_or("mix is missing")?;
        let mix: Vec<Kind> = mix.iter().map(Kind::read).collect::<Result<_, _>>()?;
        if mix.is_empty() {
            return Err("mix is empty".to_owned());
        }
        Ok(Self {
            per_second: number("per_second").ok_or("per_second is missing")?,
            length: Duration::try_from_secs_f64(number("seconds").ok_or("seconds is missing")?)
                .map_err(|error| error.to_string())?,
            to: body["to"].as_str().unwrap_or(CALLED).to_owned(),
            mix,
            seed,
        })
    }

    /// Makes the calls, each to its end.
    async fn run(self, twilio: Twilio, ended: Arc<Mutex<Ended>>, mut enough: watch::Receiver<u64>) {
        let mut chance = Chance::seeded(self.seed);
        let mut calls = JoinSet::new();
        let (began, mut due) = (Instant::now(), Duration::ZERO);
        for gap in Callers::seeded(self.seed).arrivals(self.per_second * 60.0) {
            due += gap;
            if due > self.length {
                break;
            }
            let at = tokio::time::sleep_until(began + due);
            tokio::select! {
                () = at => {}
                _stopped = enough.changed() => break,
            }
            let Some(kind) = self.draw(&mut chance) else {
                break;
            };
            let from = format!("{}{:07}", kind.from, chance.below(10_000_000));
            let call = Call::new(&from, &self.to)
                .lines(kind.lines)
                .patience(kind.patience);
            let (twilio, ended) = (twilio.clone(), Arc::clone(&ended));
            lock(&ended).in_progress += 1;
            calls.spawn(async move {
                let result = told(&kind.name, &twilio.call(call).await);
                lock(&ended).add(result);
            });
            while calls.try_join_next().is_some() {}
        }
        while calls.join_next().await.is_some() {}
    }

    fn draw(&self, chance: &mut Chance) -> Option<Kind> {
        let total: f64 = self.mix.iter().map(|kind| kind.share).sum();
        let mut left = chance.fraction() * total;
        let drawn = self.mix.iter().find(|kind| {
            left -= kind.share;
            left < 0.0
        });
        drawn.or(self.mix.last()).cloned()
    }
}

impl Kind {
    fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| {
            let text = value[name].as_str();
            text.map(str::to_owned)
                .ok_or_else(|| format!("a kind of call without {name}: {value}"))
        };
        let lines = value["lines"].as_array().map(Vec::as_slice);
        Ok(Self {
            name: text("name")?,
            from: text("from")?,
            share: value["share"].as_f64().unwrap_or(1.0),
            lines: lines
                .unwrap_or_default()
                .iter()
                .map(line)
                .collect::<Result<_, _>>()?,
            patience: ms(&value["patience_ms"]).unwrap_or(Duration::from_mins(10)),
        })
    }
}

fn line(value: &Value) -> Result<LineBehaviour, String> {
    Ok(match value.as_str() {
        Some("busy") => LineBehaviour::Busy,
        Some("no-answer") => LineBehaviour::NoAnswer,
        Some("failed") => LineBehaviour::Failed,
        _ => match (ms(&value["ring_ms"]), ms(&value["hang_up_ms"])) {
            (Some(after), _) => LineBehaviour::Answer {
                after,
                talk: ms(&value["talk_ms"]).unwrap_or(Duration::from_secs(5)),
            },
            (None, Some(after)) => LineBehaviour::CallerHangsUpRinging { after },
            (None, None) => return Err(format!("no line does {value}")),
        },
    })
}

fn ms(value: &Value) -> Option<Duration> {
    value.as_u64().map(Duration::from_millis)
}

/// A call that has ended, for who ordered it.
fn told(name: &str, result: &CallResult) -> Value {
    let (outcome, address) = match &result.outcome {
        Outcome::Talked { address } => ("talked", Some(address)),
        Outcome::CallerHungUp => ("caller hung up", None),
        Outcome::HungUp => ("hung up", None),
        Outcome::Rejected => ("rejected", None),
        Outcome::ErrorMessage => ("lost", None),
        Outcome::Endless => ("endless", None),
    };
    let story: Vec<Value> = result.story.iter().map(super::Moment::json).collect();
    let steps: Vec<Value> = result.steps.iter().map(step).collect();
    json!({
        "kind": name,
        "call_sid": result.call_sid,
        "outcome": outcome,
        "talked_to": address,
        "heard": story,
        "webhooks": steps,
        "violations": result.violations,
    })
}

fn step(exchange: &WebhookExchange) -> Value {
    json!({
        "at_ms": exchange.at.as_millisecond(),
        "ms": u64::try_from(exchange.elapsed.as_millis()).unwrap_or(u64::MAX),
        "url": exchange.path,
        "status": exchange.status,
        "attempts": exchange.attempts,
        "failed": exchange.failed,
    })
}
