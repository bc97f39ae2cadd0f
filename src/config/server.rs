//! `[server]`: where the appliance listens and how it is reached.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::pem;
use super::problem::Fault;
use super::section::{Section, TomlValue};
use super::url::{self, PublicUrl};
use crate::http::listener::tls::AcmeSettings;
use crate::phone::Region;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Where the appliance listens and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The address that Twilio's webhooks are configured with; signatures are computed over it.
    pub public_url: PublicUrl,
    /// Further addresses under which Twilio may ask: signatures over them are right too. At most 8, each once. Default: none.
    pub also_public: Vec<PublicUrl>,
    /// What this machine is called beside a second one: 1 to 16 of `a`–`z`, `0`–`9` and `-`. Default: no name.
    pub node: Option<String>,
    /// Networks of reverse proxies whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// A certificate from files. At most one of `tls` and `acme` is set; neither means plain HTTP.
    pub tls: Option<Tls>,
    /// A certificate from an ACME authority.
    pub acme: Option<AcmeSettings>,
    /// Allows plain HTTP on any address, without a proxy. Default: false.
    pub insecure_http: bool,
    /// Serves `/docs` and `/openapi.json`. Default: true.
    pub docs: bool,
    /// Origins whose pages may use the API with a key, such as `https://wallboard.example.com`. Default: none.
    pub cors_origins: Vec<String>,
    /// Whose numbers those are that Braze pushes without a country code. Default: such numbers are not read.
    pub region: Option<Region>,
    /// Webhooks in hand from which on fresh calls get the safe answer at once. Default: 512 for each core. Read at the start only.
    pub calls_in_hand: Option<NonZeroUsize>,
    /// Lets rules be published into the file of `[routing]`. Default: false.
    pub edit_rules: bool,
}

/// A certificate from files, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and its intermediates, PEM.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

impl Server {
    /// Whether only this machine can reach the listener.
    pub fn listens_on_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether the listener itself speaks TLS.
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some() || self.acme.is_some()
    }

    pub(super) fn read(section: &mut Section<'_>, state_directory: &Path) -> Option<Self> {
        let listen = section.required("listen", TomlValue::socket_address);
        let insecure_http = section.or("insecure_http", false, TomlValue::boolean);
        let public_url =
            section.required("public_url", |value| read_public_url(value, insecure_http));
        let also_public =
            section.list("also_public", |value| read_public_url(value, insecure_http));
        let names = also_public.iter().chain(&public_url).map(PublicUrl::as_str);
        let n_names = names.clone().count();
        if n_names > 9 || names.collect::<BTreeSet<_>>().len() < n_names {
            let why = "names more than 8 addresses, or one twice, or public_url again";
            section.error("also_public", Fault::new(why));
        }
        let node = section.optional("node", |value| {
            let is_plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
            value.text_like("1 to 16 of a to z, 0 to 9 and -", |name| {
                name.len() <= 16 && name.bytes().all(is_plain)
            })
        });
        let trusted_proxies = section.list("trusted_proxies", TomlValue::network);
        if trusted_proxies.iter().any(|of| of.prefix_len() == 0) {
            let why = "trusts every address, so anybody can claim any source in X-Forwarded-For";
            let fault = Fault::new(why).hint("name the addresses of your proxies");
            section.warn("trusted_proxies", fault);
        }
        let has_certificate = section.has("tls") || section.has("acme");
        let tls = section.optional_section("tls", Tls::read);
        let acme = section.optional_section("acme", |section| {
            read_acme(section, state_directory, public_url.as_ref())
        });
        if section.has("tls") && section.has("acme") {
            let hint =
                "keep [server.tls] for certificate files or [server.acme] for automatic ones";
            let fault = Fault::new("cannot be used together with server.tls");
            section.error("acme", fault.hint(hint));
        }
        let server = Self {
            also_public,
            node,
            trusted_proxies,
            tls,
            acme,
            insecure_http,
            docs: section.or("docs", true, TomlValue::boolean),
            cors_origins: section.list("cors_origins", origin),
            region: section.optional("region", region),
            calls_in_hand: section
                .optional("calls_in_hand", |value| {
                    value.integer(1..=1_000_000).map(NonZeroUsize::new)
                })
                .flatten(),
            edit_rules: section.or("edit_rules", false, TomlValue::boolean),
            listen: listen?,
            public_url: public_url?,
        };
        let has_proxy = section.has_some("trusted_proxies");
        if server.listens_on_loopback()
            && !has_certificate
            && !has_proxy
            && server.public_url.as_str().starts_with("https:")
        {
            let why = "needs a proxy in front of this loopback listener, and trusted_proxies names none: every request seems to come from this machine, which opens /metrics to all";
            let hint = "write trusted_proxies = [\"127.0.0.1/32\", \"::1/128\"]";
            section.warn("public_url", Fault::new(why).hint(hint));
        }
        let is_guarded = server.listens_on_loopback() || has_proxy;
        if !has_certificate && !is_guarded && !insecure_http {
            let hint = "add [server.tls] or [server.acme], listen on 127.0.0.1, name your proxy in trusted_proxies, or set insecure_http = true";
            let fault = Fault::new("would serve plain HTTP to other machines");
            section.error("listen", fault.hint(hint));
        }
        Some(server)
    }
}

impl Tls {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let certificate = section.required("certificate", TomlValue::path);
        let private_key = section.required("private_key", TomlValue::path);
        let (certificate, private_key) = (certificate?, private_key?);
        pem::check_pair(section, &certificate, &private_key);
        Some(Self {
            certificate,
            private_key,
        })
    }
}

fn read_public_url(value: &TomlValue<'_>, allows_http: bool) -> Result<PublicUrl, Fault> {
    let url = PublicUrl::parse(&value.text()?, allows_http)?;
    let path = url.path_prefix().to_ascii_lowercase();
    if path.contains("/webhooks/") {
        return Err(Fault::new("holds the path of a webhook, which is added by Switchboard").hint(
            "write the address without /webhooks/twilio; only Twilio's console gets it with that",
        ));
    }
    Ok(url)
}

fn read_acme(
    section: &mut Section<'_>,
    state_directory: &Path,
    public_url: Option<&PublicUrl>,
) -> Option<AcmeSettings> {
    let domains = section.required("domains", |value| {
        value.non_empty("is empty", "name the host of public_url", |value| {
            value.list(domain)
        })
    });
    let contact = section.required("contact", |value| {
        let text = value.text()?;
        if text.starts_with("mailto:") {
            return Err(Fault::new("must be a mail address alone").hint("leave mailto: out"));
        }
        value.mail_address()
    });
    let directory = section.or("directory", LETS_ENCRYPT.to_owned(), TomlValue::request_url);
    let ca = pem::authorities(section, "ca");
    let cache = section.or("cache", state_directory.join("acme"), TomlValue::path);
    if let (Some(domains), Some(url)) = (&domains, public_url) {
        let host = url.host();
        let is_host = |domain: &String| domain.eq_ignore_ascii_case(host);
        if !domains.is_empty() && !domains.iter().any(is_host) {
            section.warn(
                "domains",
                Fault::new(format!("does not hold {host}, the host of public_url"))
                    .hint("Twilio refuses a certificate for another host"),
            );
        }
    }
    Some(AcmeSettings {
        domains: domains?,
        contact: contact?,
        directory,
        ca,
        cache,
    })
}

/// Scheme, host and port, as a browser sends it.
fn origin(value: &TomlValue<'_>) -> Result<String, Fault> {
    value.text_like(
        "an origin like https://wallboard.example.com, without a path",
        |text| {
            let rest = text
                .strip_prefix("https://")
                .or_else(|| text.strip_prefix("http://"));
            rest.is_some_and(|rest| {
                let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "443"));
                url::is_host(host) && port.parse::<u16>().is_ok()
            })
        },
    )
}

fn region(value: &TomlValue<'_>) -> Result<Region, Fault> {
    Region::parse(&value.text()?).ok_or_else(|| {
        let known: Vec<_> = Region::names().collect();
        Fault::new("must be two capital letters for a region whose numbering plan is known")
            .hint(format!("one of {}", known.join(", ")))
    })
}

fn domain(value: &TomlValue<'_>) -> Result<String, Fault> {
    value.text_like(
        "a host name like calls.example.com, without a wildcard",
        |text| {
            url::is_host(text) && text.contains('.') && text.parse::<std::net::IpAddr>().is_err()
        },
    )
}
