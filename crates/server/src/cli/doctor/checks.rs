//! The checks themselves. None of them changes anything.

use super::{Finding, Verdict};
use crate::cli::connect::{ConnectArgs, Target};
use crate::config::{Config, Overrides};
use crate::exit::Failure;
use baton_client::{ClusterStatus, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// One node's time to answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);
/// A node further off cluster time than this is worth a look; beyond `CLOCK_WRONG_MS` it does not lead.
const CLOCK_WARNING_MS: u64 = 200;
const CLOCK_WRONG_MS: u64 = 500;
/// Free space below which a disk is nearly full.
const DISK_FREE_WARNING_BYTES: u64 = 5 * 1024 * 1024 * 1024;
const DISK_FREE_WRONG_BYTES: u64 = 512 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// Settings, endpoints, key, nodes.
pub(super) async fn cluster(connect: &ConnectArgs) -> Vec<Finding> {
    let target = match connect.target() {
        Ok(target) => target,
        Err(failure) => return vec![wrong("settings", &failure)],
    };
    let mut findings = vec![Finding::ok(
        "settings",
        format!("{} from {}", target.endpoints.join(", "), target.endpoints_from),
    )];
    findings.push(key(&target));
    let mut seen = None;
    for endpoint in &target.endpoints {
        let one = Target {
            endpoints: vec![endpoint.clone()],
            ..target.clone()
        };
        let (finding, status) = endpoint_check(endpoint, &one).await;
        findings.push(finding);
        seen = seen.or(status);
    }
    if let Some(status) = seen {
        findings.extend(nodes(&status));
    }
    findings
}

fn key(target: &Target) -> Finding {
    match &target.api_key {
        None => Finding::bad(
            Verdict::Wrong,
            "key",
            "there is none",
            "set BATON_API_KEY, name --api-key-file, or add a context with a key",
        ),
        Some(_) => Finding::ok("key", format!("from {}", target.key_from)),
    }
}

/// Reachable, speaking TLS as configured, accepting the key: one call tells.
async fn endpoint_check(endpoint: &str, target: &Target) -> (Finding, Option<ClusterStatus>) {
    let client = match target.client(NODE_TIMEOUT) {
        Ok(client) => client,
        Err(failure) => return (wrong(endpoint, &failure), None),
    };
    let error = match client.cluster_status().await {
        Ok(status) => {
            let detail = format!("answers as node {}, version {}", status.node_id, status.version);
            return (Finding::ok(endpoint, detail), Some(status));
        }
        Err(error) => error,
    };
    let finding = match error.kind() {
        ErrorKind::PermissionDenied => Finding::ok(
            endpoint,
            "answers and knows the key, which is no operator's: nodes are not checked",
        ),
        ErrorKind::Unauthenticated => Finding::bad(
            Verdict::Wrong,
            endpoint,
            "answers, and does not know the key",
            format!(
                "the key from {} is wrong or revoked; use another",
                target.key_from
            ),
        ),
        ErrorKind::Unavailable | ErrorKind::Timeout => Finding::bad(
            Verdict::Wrong,
            endpoint,
            error.to_string(),
            if target.ca.is_some() || endpoint.starts_with("https") {
                "check that the node runs, that no firewall is between, and that --ca signed its certificate"
            } else {
                "check that the node runs, that no firewall is between, and that its port speaks plain text"
            },
        ),
        ErrorKind::InvalidRequest
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Limited
        | ErrorKind::Unsupported
        | ErrorKind::Internal
        | ErrorKind::Closed
        | _ => Finding::bad(Verdict::Wrong, endpoint, error.to_string(), error.advice()),
    };
    (finding, None)
}

fn nodes(status: &ClusterStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &status.nodes {
        let check = format!("node {}", node.node_id);
        let off_ms = node.clock_offset_ms.unsigned_abs();
        let detail = format!("clock {:+} ms from cluster time", node.clock_offset_ms);
        findings.push(if !node.reachable {
            Finding::bad(
                Verdict::Wrong,
                check,
                format!("node {} cannot reach it at {}", status.node_id, node.peer_address),
                "start it, or see its log and the network between the nodes' peer ports",
            )
        } else if off_ms >= CLOCK_WRONG_MS {
            let fix = "set its clock (chrony, systemd-timesyncd): a node this far off does not lead";
            Finding::bad(Verdict::Wrong, check, detail, fix)
        } else if off_ms >= CLOCK_WARNING_MS {
            Finding::bad(Verdict::Warning, check, detail, "see that its time service runs")
        } else {
            Finding::ok(check, format!("reachable, {detail}"))
        });
    }
    findings.push(match status.groups_without_leader {
        0 => Finding::ok("leaders", "every group has one"),
        n => Finding::bad(
            Verdict::Wrong,
            "leaders",
            format!("{n} groups have none"),
            "if that lasts longer than seconds, a majority of the nodes is away: start them",
        ),
    });
    findings
}

/// A node's configuration, certificates and disk.
pub(super) fn node(path: &Path) -> Vec<Finding> {
    let config = match crate::config::load(Some(path), &Overrides::default()) {
        Ok(config) => config,
        Err(failure) => return vec![wrong("configuration", &failure)],
    };
    let mut findings = vec![Finding::ok(
        "configuration",
        format!("{} holds together", path.display()),
    )];
    findings.extend(certificates(&config));
    findings.push(disk(&config.data_dir));
    findings
}

fn certificates(config: &Config) -> Vec<Finding> {
    let ports = [
        ("client TLS", &config.client.tls),
        ("peer TLS", &config.peer.tls),
        ("operator TLS", &config.operator.tls),
    ];
    let enabled = ports.into_iter().filter(|(_, tls)| tls.enabled());
    let each = enabled.map(
        |(check, tls)| match crate::operator::tls::server_config(tls, check) {
            Ok(_) => Finding::ok(check, "certificate and key fit"),
            Err(failure) => wrong(check, &failure),
        },
    );
    each.collect()
}

fn disk(data_dir: &Path) -> Finding {
    let existing = data_dir.ancestors().find(|dir| dir.exists()).unwrap_or(data_dir);
    let free = match fs2::available_space(existing) {
        Ok(free) => free,
        Err(error) => {
            let detail = format!("cannot look at {}: {error}", existing.display());
            return Finding::bad(
                Verdict::Wrong,
                "disk",
                detail,
                "correct data_dir or its permissions",
            );
        }
    };
    let detail = format!("{} MiB free at {}", free / MIB, existing.display());
    let verdict = match free {
        0..DISK_FREE_WRONG_BYTES => Verdict::Wrong,
        DISK_FREE_WRONG_BYTES..DISK_FREE_WARNING_BYTES => Verdict::Warning,
        _ => return Finding::ok("disk", detail),
    };
    let fix = "make room, or move data_dir to a larger volume: a node with a full disk stops";
    Finding::bad(verdict, "disk", detail, fix)
}

fn wrong(check: &str, failure: &Failure) -> Finding {
    Finding::bad(Verdict::Wrong, check, failure.line.clone(), "")
}
