//! A stand-in of a dialer of whatever kind a configuration names.

use std::io;
use std::pin::Pin;

use super::dialfire::{Account, Dialfire};
use super::faults::Faults;
use super::http_dialer::HttpDialer;
use super::requests::Requests;
use super::zendesk_talk::ZendeskTalk;

/// Serves until it is dropped.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The stand-in. Cheap to clone.
#[derive(Clone, Debug)]
pub enum AnyDialer {
    Dialfire(Dialfire),
    ZendeskTalk(ZendeskTalk),
    Http(HttpDialer),
}

impl AnyDialer {
    /// Listens on a free port of the loopback address, for an account in which every secret is `secret`. `setting` gives what stands under a key of
    /// the dialer; `tasks` are further ones of its campaign.
    pub fn bind(
        kind: &str,
        setting: impl Fn(&str) -> String,
        secret: &str,
        tasks: Vec<String>,
    ) -> io::Result<(Self, Serving)> {
        const ANY: &str = "127.0.0.1:0";
        Ok(match kind {
            "dialfire" => {
                let account = Account {
                    campaign: setting("campaign"),
                    campaign_token: secret.to_owned(),
                    tenant: setting("tenant"),
                    tenant_token: secret.to_owned(),
                    tasks: tasks.into_iter().chain([setting("task")]).collect(),
                };
                let (dialfire, serve) = Dialfire::bind(ANY, account)?;
                (Self::Dialfire(dialfire), Box::pin(serve))
            }
            "zendesk_talk" => {
                let (zendesk, serve) = ZendeskTalk::bind(ANY, &setting("email"), secret)?;
                (Self::ZendeskTalk(zendesk), Box::pin(serve))
            }
            "http" => {
                let (http, serve) = HttpDialer::bind(ANY)?;
                (Self::Http(http), Box::pin(serve))
            }
            other => {
                let why = format!("there is no stand-in of a dialer of the kind {other}");
                return Err(io::Error::other(why));
            }
        })
    }

    /// Its host, without a trailing slash.
    pub fn url(&self) -> String {
        match self {
            Self::Dialfire(dialfire) => dialfire.url(),
            Self::ZendeskTalk(zendesk) => zendesk.url(),
            Self::Http(http) => http.url(),
        }
    }

    pub fn faults(&self) -> &Faults {
        match self {
            Self::Dialfire(dialfire) => dialfire.faults(),
            Self::ZendeskTalk(zendesk) => zendesk.faults(),
            Self::Http(http) => http.faults(),
        }
    }

    pub fn requests(&self) -> &Requests {
        match self {
            Self::Dialfire(dialfire) => dialfire.requests(),
            Self::ZendeskTalk(zendesk) => zendesk.requests(),
            Self::Http(http) => http.requests(),
        }
    }
}
