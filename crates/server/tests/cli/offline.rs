//! What works, or fails well, without a cluster.

use crate::shell::Shell;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn contexts_are_added_used_listed_and_forgotten() {
    let shell = Shell::new();
    let key = shell.home().join("key");
    std::fs::write(&key, "axme_sa_secret_1234\n").unwrap();
    let env = shell.home().join("client.env");
    std::fs::write(
        &env,
        "AXME_BASE_URL=http://a:1\nAXME_BASE_URLS=http://a:1,http://b:2\nAXME_API_KEY=axme_k\n",
    )
    .unwrap();
    shell.ok(&format!(
        "context add prod --endpoint http://127.0.0.1:1 --api-key-file {}",
        key.display()
    ));
    shell.ok(&format!("context add dev --env-file {}", env.display()));
    let rows = shell.json("context list");
    assert_eq!(rows[0]["name"], "dev");
    assert_eq!(rows[0]["endpoints"][1], "http://b:2");
    assert_eq!(
        (&rows[1]["current"], &rows[1]["has_key"]),
        (&true.into(), &true.into())
    );
    let listed = shell.ok("context list");
    assert!(listed.contains("…1234") && !listed.contains("secret"), "{listed}");
    let file = shell.home().join("baton/contexts.toml");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let complaint = shell.complaint("agents list --timeout 200ms", 6);
    assert!(
        complaint.contains("http://127.0.0.1:1"),
        "the current context is used: {complaint}"
    );
    let complaint = shell.complaint("agents list --timeout 200ms --endpoint 127.0.0.1:3", 6);
    assert!(complaint.contains("127.0.0.1:3"), "a flag wins: {complaint}");

    shell.ok("context use dev");
    shell.ok("context remove dev");
    assert_eq!(shell.json("context list").as_array().unwrap().len(), 1);
    assert!(shell.complaint("context use dev", 3).contains("context add dev"));
    assert!(
        shell
            .complaint("agents list --context dev", 3)
            .contains("no context")
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(shell.complaint("context list", 78).contains("chmod 600"));
}

#[test]
fn a_cluster_that_is_not_there_is_named_with_what_to_do() {
    let shell = Shell::new().with("AXME_BASE_URL", "http://127.0.0.1:1");
    for line in [
        "intents get x",
        "intents list",
        "intents submit --to a --type t",
        "cluster status",
        "top --once",
        "inbox",
    ] {
        let complaint = shell.complaint(&format!("{line} --timeout 200ms"), 6);
        assert!(complaint.contains("http://127.0.0.1:1"), "{line}: {complaint}");
        assert!(complaint.contains("check the endpoints"), "{line}: {complaint}");
    }
    // The environment of this project wins over that of the wire surface.
    let both = Shell::new()
        .with("AXME_BASE_URL", "http://127.0.0.1:1")
        .with("BATON_ENDPOINTS", "http://127.0.0.1:2");
    assert!(both.complaint("inbox --timeout 200ms", 6).contains("127.0.0.1:2"));
}

#[test]
fn wrong_command_lines_end_with_two() {
    let shell = Shell::new();
    for line in [
        "intents",
        "intents cancel",
        "intents cancel x --to a",
        "intents cancel --to a",
        "intents submit --to a --type t --json {",
        "intents submit --to a --type t --file /no/such",
        "intents list --status done",
        "intents list --since yesterday",
        "scenarios validate /no/such.json",
    ] {
        shell.ends(line, 2);
    }
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_do() {
    let shell = Shell::new().with("AXME_BASE_URL", "http://127.0.0.1:1");
    let found = shell.json_ends("doctor", 1);
    let of = |check: &str| {
        let all = found.as_array().unwrap();
        all.iter()
            .find(|finding| finding["check"] == check)
            .unwrap()
            .clone()
    };
    assert_eq!(of("settings")["verdict"], "ok");
    assert_eq!(of("key")["verdict"], "wrong");
    assert!(of("key")["fix"].as_str().unwrap().contains("BATON_API_KEY"));
    assert!(
        of("http://127.0.0.1:1")["fix"]
            .as_str()
            .unwrap()
            .contains("node runs")
    );

    let config = shell.home().join("baton.toml");
    let data = shell.home().join("data");
    std::fs::write(&config, format!("data_dir = {:?}\n", data.display().to_string())).unwrap();
    let found = shell.json_ends(&format!("doctor --config {}", config.display()), 1);
    let checks: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["check"].as_str().unwrap())
        .collect();
    assert!(
        checks.contains(&"configuration") && checks.contains(&"disk"),
        "{checks:?}"
    );
    std::fs::write(&config, "data_dir = 3\n").unwrap();
    let found = shell.ends(&format!("doctor --config {}", config.display()), 1);
    assert!(found.contains("data_dir"), "{found}");
}

#[test]
fn completion_and_help_know_every_command() {
    let shell = Shell::new();
    let script = shell.ok("completion bash");
    for word in ["transfer-leader", "backlog", "trace", "doctor", "validate"] {
        assert!(script.contains(word), "{word}");
    }
    assert!(
        shell
            .ok("intents submit --help")
            .contains("baton intents submit --to")
    );
    let help = shell.ok("--help");
    assert!(
        help.contains("Exit codes") && help.contains("not found"),
        "{help}"
    );
    assert!(shell.ok("version -o yaml").starts_with("---\n"));
}
