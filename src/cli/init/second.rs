//! `init --second`: the configuration of a second machine from that of the first, and what else has to be done on both.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::super::frame::{Exit, Global, errln, or_said, outln};
use super::InitArguments;
use super::place::give_to_service;
use crate::app;
use crate::config::{self, Config, NeededBeside, PublicUrl};
use crate::files;
use crate::store::secret_file::SecretFile;

/// Where the service looks for its configuration on a machine of its own.
const USUAL: &str = "/etc/switchboard/config.toml";

/// What was written, and what is left to do.
#[derive(Serialize)]
struct SecondWritten {
    config: PathBuf,
    node: String,
    /// Files that the second machine needs as they are here.
    copy: Vec<FileToCopy>,
    /// Secrets that the second machine gets in another way than by a file.
    give: Vec<String>,
    /// Lines of the first machine's file that have to be changed.
    first: Vec<String>,
    /// What cannot be known here.
    to_do: Vec<String>,
}

#[derive(Serialize)]
struct FileToCopy {
    path: PathBuf,
    mode: String,
}

pub(super) fn run(
    first_path: &Path,
    arguments: &InitArguments,
    global: &Global,
) -> anyhow::Result<Exit> {
    let first_path = &std::path::absolute(first_path)?;
    let first = or_said(first_path, config::load(first_path))?.config;
    let node = arguments.node.as_deref().unwrap_or("b");
    if first.server.node.as_deref() == Some(node) {
        errln!(
            "{} is the first machine's name: give another with --node",
            node
        );
        return Ok(Exit::Usage);
    }
    let known = first.server.also_public.first().map(PublicUrl::as_str);
    let Some(public_url) = arguments.public_url.as_deref().or(known) else {
        errln!(
            "the second machine's own address is not known: give --public-url https://…; that of the first where one address leads to both"
        );
        return Ok(Exit::Usage);
    };
    let public_url = public_url.strip_suffix('/').unwrap_or(public_url);
    let beside = first_path.with_file_name(format!("config-{node}.toml"));
    let path = std::path::absolute(global.config.as_deref().unwrap_or(&beside))?;
    let secret = app::secret_file(&first);
    let secret = secret.as_ref().map(SecretFile::path);
    if let Some(missing) = secret.filter(|path| !path.exists()) {
        errln!(
            "{} is not there: start the first machine once, which makes it",
            missing.display()
        );
        return Ok(Exit::Failed);
    }
    let text = fs::read_to_string(first_path)?;
    let second = (node, public_url);
    let text = config::second_of(&text, &first, second, secret)?;
    let context = config::Context::in_directory(files::folder(&path)).without_secrets();
    // Nothing is written that would be refused.
    if let Err(rejected) = config::parse(&text, &context) {
        for problem in rejected.problems.iter().filter(|found| found.is_error()) {
            errln!("{}", problem.message);
        }
        return Ok(Exit::Usage);
    }
    let mode = mode_of(first_path)?;
    match files::create(&path, mode) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            errln!(
                "{} is there already and stays as it is; name another file with --config, or move it away",
                path.display()
            );
            return Ok(Exit::Failed);
        }
        made => made
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?,
    }
    give_to_service(&path, false)?;
    let written = SecondWritten::of(&path, &text, &first, second)?;
    global.print(&written, |written| written.print(first_path))?;
    Ok(Exit::Done)
}

fn mode_of(path: &Path) -> anyhow::Result<u32> {
    let found = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(found.permissions().mode() & 0o777)
}

impl SecondWritten {
    fn of(
        path: &Path,
        text: &str,
        first: &Config,
        (node, public_url): (&str, &str),
    ) -> anyhow::Result<Self> {
        let (mut paths, mut give) = (BTreeSet::new(), Vec::new());
        let rules = [&first.routing.file, &first.routing.draft]
            .into_iter()
            .flatten();
        let texts = rules.map(|file| Ok((file.as_path(), fs::read_to_string(file)?)));
        for one in std::iter::once(Ok((path, text.to_owned()))).chain(texts) {
            let (file, text): (&Path, String) = one.map_err(|error: std::io::Error| error)?;
            let needed = NeededBeside::of(&text);
            let folder = files::folder(file);
            paths.extend(needed.files.iter().map(|path| folder.join(path)));
            give.extend(needed.given);
        }
        let copy = paths.into_iter().map(|path| {
            let mode = format!("{:04o}", mode_of(&path)?);
            Ok(FileToCopy { path, mode })
        });
        let server = &first.server;
        let mut also: Vec<&str> = server.also_public.iter().map(PublicUrl::as_str).collect();
        if public_url != server.public_url.as_str() && !also.contains(&public_url) {
            also.push(public_url);
        }
        let requests = first.braze.requests_per_minute;
        let mut lines = Vec::new();
        if server.node.is_none() {
            lines.push(format!(
                "[server] node = {:?}",
                if node == "a" { "b" } else { "a" }
            ));
        }
        if also.len() > server.also_public.len() {
            lines.push(format!("[server] also_public = {also:?}"));
        }
        lines.push(format!(
            "[braze] requests_per_minute = {} (is {requests})",
            requests.div_ceil(2)
        ));
        let mut to_do = Vec::new();
        if server.tls.is_some() {
            to_do.push(format!(
                "server.tls: the certificate has to be good for {public_url}"
            ));
        }
        if server.acme.is_some() && public_url == server.public_url.as_str() {
            to_do.push("server.acme: one address for two machines gets no certificate in this way; end TLS at the balancer".to_owned());
        }
        if first.alerts.heartbeat.is_some() {
            to_do.push("alerts.heartbeat: give each machine an address of its own".to_owned());
        }
        if first.auth.oidc.is_some() {
            to_do.push(format!(
                "auth.oidc: allow {public_url} at the provider, too"
            ));
        }
        Ok(Self {
            config: path.to_owned(),
            node: node.to_owned(),
            copy: copy.collect::<anyhow::Result<_>>()?,
            give,
            first: lines,
            to_do,
        })
    }

    fn print(&self, first_path: &Path) {
        errln!("wrote {}", self.config.display());
        outln!("Copy to the second machine, for the user of the service:");
        outln!("  {} as {USUAL}", self.config.display());
        for FileToCopy { path, mode } in &self.copy {
            outln!("  {}, mode {mode}, to the same path", path.display());
        }
        for given in &self.give {
            outln!("  the secret behind {given}");
        }
        outln!("Change in {}, and reload:", first_path.display());
        self.first.iter().for_each(|line| outln!("  {line}"));
        self.to_do.iter().for_each(|line| outln!("Look at {line}"));
        errln!("next, there: switchboard check-config, switchboard doctor, then start the service");
    }
}
