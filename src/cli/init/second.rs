//! `init --second`: the configuration of a second machine from that of the first, and what else has to be done.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;

use super::super::frame::{Exit, Global, or_said, outln};
use super::InitArguments;
use super::place::give_to_service;
use crate::app;
use crate::config::{self, PublicUrl};
use crate::files;
use crate::store::secret_file::SecretFile;

pub(super) fn run(
    first_path: &Path,
    arguments: &InitArguments,
    global: &Global,
) -> anyhow::Result<Exit> {
    let first_path = &std::path::absolute(first_path)?;
    let first = or_said(first_path, config::load(first_path))?.config;
    let own_url = first.server.public_url.as_str();
    let own = first.server.node.as_deref().unwrap_or("a");
    let node = arguments.node.as_deref().unwrap_or("b");
    let url = arguments.public_url.as_deref().unwrap_or(own_url);
    let url = url.strip_suffix('/').unwrap_or(url);
    let beside = first_path.with_file_name(format!("config-{node}.toml"));
    let path = std::path::absolute(global.config.as_deref().unwrap_or(&beside))?;
    anyhow::ensure!(
        own != node,
        "{node} is the first machine: give another --node"
    );
    let secret = app::secret_file(&first);
    let secret = secret.as_ref().map(SecretFile::path);
    let text = fs::read_to_string(first_path)?;
    let text = config::second_of(&text, &first, (node, url), secret)?;
    let context = config::Context::in_directory(files::folder(&path));
    // Nothing is written that would be refused, for want of the first machine's secret, too.
    let second = or_said(&path, config::parse(&text, &context))?.config;
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    let made = files::create(&path, mode(first_path)?);
    let made = made.with_context(|| format!("{} is not overwritten", path.display()));
    made?.write_all(text.as_bytes())?;
    give_to_service(&path, false)?;
    let mut needed = BTreeSet::new();
    files_in(&toml::from_str(&text)?, &mut needed);
    let needed = needed.iter().map(|file| files::folder(&path).join(file));
    let copy = needed.map(|file| Ok(format!("{:04o} {}", mode(&file)?, file.display())));
    let copy = copy.collect::<anyhow::Result<Vec<_>>>()?;
    let also = first.server.also_public.iter().map(PublicUrl::as_str);
    let also: BTreeSet<&str> = also.chain([url]).filter(|url| *url != own_url).collect();
    let requests = second.braze.requests_per_minute;
    let lines = [
        format!("[server] node = {own:?}"),
        format!("[server] also_public = {:?}", Vec::from_iter(also)),
        format!("[braze] requests_per_minute = {requests}"),
    ];
    let written = serde_json::json!({ "config": path, "copy": copy, "first": lines });
    global.print(&written, |_| {
        outln!("{}: copy it to the second machine, as /etc/switchboard/config.toml", path.display());
        outln!("Copy there, too, to the same paths, with these modes, for the user of the service, and what these files name in turn:");
        for file in &copy {
            outln!("  {file}");
        }
        outln!("Set in {}, and reload it:", first_path.display());
        for line in &lines {
            outln!("  {line}");
        }
    })?;
    Ok(Exit::Done)
}

/// The values of all keys that name a file which is read.
fn files_in(value: &toml::Value, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_table().into_iter().flatten() {
        let mut names = "file certificate private_key ca draft calendar".split(' ');
        let path = value.as_str().filter(|_| names.any(|name| name == key));
        found.extend(path.map(str::to_owned));
        files_in(value, found);
    }
    let items = value.as_array().into_iter();
    items.flatten().for_each(|item| files_in(item, found));
}
