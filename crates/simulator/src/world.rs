//! All stand-ins at once, on loopback, with an account at each of them.

use std::future::Future;
use std::io;

use tokio::task::JoinSet;

use super::braze::Braze;
use super::dialfire::{Account, Dialfire};
use super::http_dialer::HttpDialer;
use super::smtp::Smtp;
use super::twilio::{Settings, Twilio};
use super::zendesk_talk::ZendeskTalk;

/// Ids, numbers and secrets of the stand-ins. All of them are made up and open nothing.
pub mod made_up {
    /// The `CallSid` of the call that a test calls so: the same for the same name, and of Twilio's form.
    pub fn call_sid(name: &str) -> String {
        use sha2::{Digest, Sha256};
        let digest = hex::encode(Sha256::digest(name));
        format!("CA{}", digest.split_at(32).0)
    }

    pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
    pub const AUTH_TOKEN: &str = "0123456789abcdef0123456789abcdef";
    /// The number that is called.
    pub const CALLED: &str = "+4930900900";
    /// The URL typed in Twilio's console.
    pub const PUBLIC_URL: &str = "https://calls.example.com";
    pub const BRAZE_KEY: &str = "5a1e0000-made-up-0000-000000000001";
    pub const CAMPAIGN: &str = "AB12CD34EF56GH78";
    pub const CAMPAIGN_TOKEN: &str = "made-up-campaign-token";
    pub const TENANT: &str = "0a1b2c3d";
    pub const TENANT_TOKEN: &str = "made-up-tenant-token";
    /// The task that takes callers.
    pub const TASK: &str = "inbound_hot";
    /// Where callers wait to be called back.
    pub const CALL_BACK_TASK: &str = "call_back";
    pub const DIALFIRE_LINE: &str = "+4930111111";
    /// The agent whose token is used at Zendesk.
    pub const ZENDESK_EMAIL: &str = "router@acme.example";
    pub const ZENDESK_TOKEN: &str = "made-up-zendesk-token";
    pub const ZENDESK_LINE: &str = "sip:k3v9tq@acme.sip.twilio.com";
    /// The line of the HTTP dialer.
    pub const HTTP_DIALER_LINE: &str = "+4930333333";
    /// Who is dialled when nobody else is left.
    pub const LAST_RESORT: &str = "+4930999999";
}

/// The handles of all stand-ins. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    pub twilio: Twilio,
    pub braze: Braze,
    pub dialfire: Dialfire,
    pub zendesk: ZendeskTalk,
    pub http_dialer: HttpDialer,
    pub smtp: Smtp,
}

impl World {
    /// Binds all of them to free ports of the loopback address; the future serves them until it is dropped.
    ///
    /// The simulated Twilio does not know yet where the product listens: see [`World::connect`].
    pub fn bind(
        seed: u64,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        const ANY: &str = "127.0.0.1:0";
        let mut settings = Settings::new(
            "",
            made_up::PUBLIC_URL,
            made_up::ACCOUNT_SID,
            made_up::AUTH_TOKEN,
        );
        settings.own_numbers = vec![made_up::CALLED.to_owned()];
        let (twilio, serve_twilio) = Twilio::bind(ANY, settings, seed)?;
        let (braze, serve_braze) = Braze::bind(ANY, made_up::BRAZE_KEY)?;
        let (dialfire, serve_dialfire) = Dialfire::bind(ANY, Account::made_up())?;
        let (zendesk, serve_zendesk) =
            ZendeskTalk::bind(ANY, made_up::ZENDESK_EMAIL, made_up::ZENDESK_TOKEN)?;
        let (http_dialer, serve_http_dialer) = HttpDialer::bind(ANY)?;
        let (smtp, serve_smtp) = Smtp::bind(ANY, None)?;
        for faults in [
            braze.faults(),
            dialfire.faults(),
            zendesk.faults(),
            http_dialer.faults(),
        ] {
            faults.seed(seed);
        }
        let world = Self {
            twilio,
            braze,
            dialfire,
            zendesk,
            http_dialer,
            smtp,
        };
        let serve = async move {
            // A task for each, so that they also serve in parallel.
            let mut services = JoinSet::new();
            services.spawn(serve_twilio);
            services.spawn(serve_braze);
            services.spawn(serve_dialfire);
            services.spawn(serve_zendesk);
            services.spawn(serve_http_dialer);
            services.spawn(serve_smtp);
            while services.join_next().await.is_some() {}
        };
        Ok((world, serve))
    }

    /// Tells the simulated Twilio where the product listens, and the public URL under which it is configured.
    pub fn connect(&self, webhook_base: &str, public_url: &str) {
        self.twilio.configure(|settings| {
            webhook_base
                .trim_end_matches('/')
                .clone_into(&mut settings.webhook_base);
            public_url
                .trim_end_matches('/')
                .clone_into(&mut settings.public_url);
        });
    }

    /// Makes every HTTP service and the mail server well again.
    pub fn clear_faults(&self) {
        self.twilio.faults().clear();
        self.braze.faults().clear();
        self.dialfire.faults().clear();
        self.zendesk.faults().clear();
        self.http_dialer.faults().clear();
        self.smtp.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;
    use crate::testing::{client, in_background};
    use crate::twilio::{Call, Outcome};

    #[tokio::test]
    async fn everything_listens_and_stops_when_the_future_is_dropped() {
        let (world, serve) = World::bind(1).unwrap();
        let mut running = in_background(serve);
        let urls = [
            world.twilio.url(),
            world.braze.url(),
            world.dialfire.url(),
            world.zendesk.url(),
            world.http_dialer.url(),
        ];
        for url in &urls {
            assert!(client().get(url).send().await.is_ok(), "{url}");
        }
        world.braze.faults().standing(Fault::RefuseConnections);
        assert!(client().get(&urls[1]).send().await.is_err());
        world.clear_faults();
        assert!(client().get(&urls[1]).send().await.is_ok());
        running.shutdown().await;
        world.clear_faults();
        for url in &urls {
            let error = client().get(url).send().await.unwrap_err();
            assert!(error.is_connect(), "{url}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_call_to_nowhere_ends_with_the_error_message() {
        let (world, _serve) = World::bind(1).unwrap();
        world.connect("http://127.0.0.1:9", "https://calls.example.com/");
        let call = Call::new("+14155550100", made_up::CALLED);
        let result = world.twilio.call(call).await;
        assert_eq!(result.outcome, Outcome::ErrorMessage);
        assert!(result.violations[0].starts_with("11205"));
        assert_eq!(result.steps[0].attempts, 2);
    }
}
