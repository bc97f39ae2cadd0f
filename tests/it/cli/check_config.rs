//! `check-config`, and what every command says of a configuration that it cannot take.

use serde_json::Value;

use super::Place;

fn finding<'a>(document: &'a Value, check: &str) -> &'a Value {
    let findings = document["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or(&Value::Null)
}

/// The line and the column of a text in the file, counted from 1.
fn place_of(text: &str, wanted: &str) -> (usize, usize) {
    let (idx, line) = text
        .lines()
        .enumerate()
        .find(|(_, line)| line.contains(wanted))
        .unwrap();
    (idx + 1, line.find(wanted).unwrap() + 1)
}

#[tokio::test]
async fn a_valid_configuration_is_said_to_be_valid_and_nothing_is_opened() {
    let place = Place::new();
    let ran = place.run(&["check-config"]).await.exits(0);
    assert_eq!(ran.stdout, "config.toml is valid\n");
    let document = place.run(&["check-config", "--json"]).await.exits(0).json();
    assert_eq!(document["ok"], true);
    let placeholder = finding(&document, "server.public_url");
    assert_eq!(placeholder["severity"], "warning", "{document}");
    assert!(placeholder["line"].is_u64() && placeholder["hint"].is_string());
    let plain = finding(&document, "twilio.auth_token");
    assert_eq!(plain["severity"], "warning");
    let names: Vec<_> = std::fs::read_dir(place.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["config.toml"]);
}

#[tokio::test]
async fn a_mistyped_key_is_named_with_its_neighbour_line_and_column_and_so_is_every_other_problem()
{
    let place = Place::new();
    place.reconfigure("score_attribute", "score_atribute");
    place.reconfigure(
        "default_dialer = \"zendesk\"",
        "default_dialer = \"zendesl\"\nbudget = \"soon\"",
    );
    let text = place.text();

    let ran = place.run(&["check-config"]).await.exits(78);
    let (line, column) = place_of(&text, "score_atribute");
    assert!(
        ran.stderr
            .contains(&format!("config.toml:{line}:{column}: error: ")),
        "{}",
        ran.stderr
    );
    for words in [
        "score_atribute",
        "did you mean score_attribute?",
        "zendesl",
        "did you mean zendesk?",
        "routing.budget",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert_eq!(ran.stdout, "config.toml is not valid\n");

    let document = place
        .run(&["--json", "check-config"])
        .await
        .exits(78)
        .json();
    assert_eq!(document["ok"], false);
    let unknown = finding(&document, "braze.score_atribute");
    assert_eq!(
        (&unknown["line"], &unknown["column"]),
        (&line.into(), &column.into())
    );
    assert_eq!(unknown["severity"], "error");
    assert!(
        unknown["message"].is_string() && unknown["hint"].is_string(),
        "{unknown}"
    );
    let errors = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["severity"] == "error");
    assert_eq!(errors.count(), 3, "{document}");
    assert_eq!(
        finding(&document, "routing.budget")["line"],
        place_of(&text, "budget =").0
    );
}

#[tokio::test]
async fn every_command_that_needs_a_configuration_ends_with_78_without_one() {
    let place = Place::empty();
    let commands: [&[&str]; 6] = [
        &["check-config"],
        &["serve"],
        &["migrate", "status"],
        &["migrate"],
        &["test-dialer", "--all"],
        &["explain", "--from", "+491700000090"],
    ];
    for command in commands {
        // The default would be the one of this machine, where there is one.
        let arguments = [command, &["--config", "absent.toml"]].concat();
        let ran = place.run(&arguments).await.exits(78);
        assert!(
            ran.stderr.contains("absent.toml"),
            "{command:?}: {}",
            ran.stderr
        );
    }
    place.configure("[server");
    for command in commands {
        let ran = place.run(command).await.exits(78);
        assert!(
            ran.stderr.contains("config.toml:1:"),
            "{command:?}: {}",
            ran.stderr
        );
    }
    let mut by_variable = place.command(&["check-config"]);
    by_variable.env("SWITCHBOARD_CONFIG", "elsewhere.toml");
    let ran = super::Ran::of(by_variable).await.exits(78);
    assert!(ran.stderr.contains("elsewhere.toml"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_configuration_with_plain_secrets_that_all_can_read_is_refused_and_its_group_is_warned_of()
 {
    let place = Place::new();
    for mode in [0o644, 0o604, 0o606] {
        place.set_mode("config.toml", mode);
        let ran = place.run(&["check-config"]).await.exits(78);
        assert!(
            ran.stderr.contains("everybody on this machine can read"),
            "{mode:o}: {}",
            ran.stderr
        );
        place.run(&["serve"]).await.exits(78);
    }
    place.set_mode("config.toml", 0o640);
    let ran = place.run(&["check-config"]).await.exits(0);
    assert!(ran.stderr.contains("its group can read"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_secret_in_a_file_is_taken_from_its_owner_only_and_found_beside_the_configuration() {
    let place = Place::new();
    let plain = format!(
        "auth_token = \"{}\"",
        switchboard_simulator::made_up::AUTH_TOKEN
    );
    place.reconfigure(&plain, "auth_token = { file = \"token\" }");
    let ran = place.run(&["check-config"]).await.exits(78);
    assert!(
        ran.stderr.contains("twilio.auth_token cannot be read"),
        "{}",
        ran.stderr
    );
    let token = switchboard_simulator::made_up::AUTH_TOKEN;
    std::fs::write(place.path("token"), format!("{token}\n")).unwrap();
    place.set_mode("token", 0o600);
    let document = place.run(&["check-config", "--json"]).await.exits(0).json();
    assert!(
        finding(&document, "twilio.auth_token").is_null(),
        "{document}"
    );
    place.set_mode("token", 0o644);
    let ran = place.run(&["check-config"]).await.exits(78);
    assert!(
        ran.stderr.contains("everybody on this machine can read"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_misplaced_secret_is_not_shown_by_whatever_is_said_of_it() {
    let place = Place::new();
    let token = format!(
        "auth_token = \"{}\"",
        switchboard_simulator::made_up::AUTH_TOKEN
    );
    let secret = switchboard_simulator::made_up::AUTH_TOKEN;
    let valid = place.text();
    for broken in [
        format!("auth_tokem = \"{secret}\""),
        format!("auth_token = \"{secret}"),
        format!("auth_token = {secret}"),
        format!("auth_token = [\"{secret}\", 7]"),
        format!("auth_token = {{ file = \"{secret}\" "),
        format!("auth_token \"{secret}\""),
        format!("account_sid = \"{secret}\""),
        format!("auth_token = {{ plain = \"{secret}\" }}"),
    ] {
        // What is printed is searched for the secret wherever a command is run here.
        place.configure(&valid.replace(&token, &broken));
        place.run(&["check-config"]).await.exits(78);
        place.run(&["check-config", "--json"]).await.exits(78);
        place.run(&["serve"]).await.exits(78);
    }
}
