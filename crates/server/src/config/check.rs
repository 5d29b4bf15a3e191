//! What must hold between settings. Each refusal names the key and the fix.

mod notifier;

use super::{Config, Tls};
use crate::exit::Failure;
use baton_protocol::limits::AUDIT_RETENTION_MS_MIN;
use std::net::SocketAddr;

/// Nodes of a static cluster at most.
const CLUSTER_NODES_MAX: usize = 5;
/// Longest pause between two attempts of a push: a day.
const RETRY_PAUSE_MS_MAX: u64 = 24 * 3_600_000;

/// Checks a loaded configuration.
///
/// # Errors
/// The first setting that cannot work, as an exit-78 failure.
pub fn check(config: &Config) -> Result<(), Failure> {
    listener("peer", config.peer.listen, &config.peer.tls)?;
    listener("operator", config.operator.listen, &config.operator.tls)?;
    tls_files("client", &config.client.tls)?;
    origins(&config.client.cors_origins)?;
    own_ports(config)?;
    cluster(config)?;
    if config.data_dir.as_os_str().is_empty() {
        return refuse("data_dir is empty; name a directory this node may write to");
    }
    let limits = &config.limits;
    if limits.connections == 0 || limits.streams == 0 || limits.streams_per_connection == 0 {
        return refuse(
            "limits.connections, limits.streams and limits.streams_per_connection must be at least 1",
        );
    }
    if config.delivery.visibility_timeout_ms < 100 {
        return refuse("delivery.visibility_timeout_ms is below 100; use at least 100 milliseconds");
    }
    if config.delivery.pickup_timeout_ms < config.delivery.visibility_timeout_ms {
        return refuse("delivery.pickup_timeout_ms is below delivery.visibility_timeout_ms; raise it");
    }
    push(&config.push)?;
    notifier::check(config)?;
    if config.storage.table_memory_bytes < 16 * 1024 * 1024 {
        return refuse("storage.table_memory_bytes is below 16777216; give the tables at least 16 MiB");
    }
    if let Err(error) = config.log.filter.parse::<tracing_subscriber::EnvFilter>() {
        return refuse(format!(
            "log.filter is not a filter ({error}); use for example info,baton_consensus=debug"
        ));
    }
    Ok(())
}

fn push(push: &super::Push) -> Result<(), Failure> {
    let shares = [
        push.concurrency,
        push.endpoint_concurrency,
        push.host_concurrency,
        push.workspace_concurrency,
    ];
    if push.timeout_ms == 0 || shares.contains(&0) {
        return refuse(
            "push.timeout_ms and push.concurrency, push.endpoint_concurrency, push.host_concurrency and \
             push.workspace_concurrency must be at least 1",
        );
    }
    if !is_schedule(&push.retry_schedule_ms) {
        return refuse(format!(
            "push.retry_schedule_ms must name at least one pause and none above {RETRY_PAUSE_MS_MAX}"
        ));
    }
    // Whether the file holds certificates, before anything else happens.
    crate::adapters::authorities(push.ca.as_deref())
        .map(drop)
        .map_err(Failure::config)
}

/// At least one pause, and none that nobody would live to see.
fn is_schedule(pauses_ms: &[u64]) -> bool {
    !pauses_ms.is_empty() && pauses_ms.iter().all(|ms| *ms <= RETRY_PAUSE_MS_MAX)
}

fn cluster(config: &Config) -> Result<(), Failure> {
    let peers = &config.cluster.peers;
    if peers.len() > CLUSTER_NODES_MAX {
        return refuse(format!("cluster.peers names more than {CLUSTER_NODES_MAX} nodes"));
    }
    if config.cluster.ordinal >= peers.len().max(1) {
        return refuse(format!(
            "cluster.ordinal is {} but cluster.peers has {} entries; ordinals count from 0",
            config.cluster.ordinal,
            peers.len()
        ));
    }
    for (n, peer) in peers.iter().enumerate() {
        if peers[..n].contains(peer) {
            return refuse(format!(
                "cluster.peers names {peer} twice; every node needs its own address"
            ));
        }
        let port = peer
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return refuse(format!("cluster.peers entry {peer:?} is not host:port"));
        }
    }
    let own = config.peer_address();
    if let Some(listed) = peers.get(config.cluster.ordinal)
        && *listed != own
    {
        return refuse(format!(
            "cluster.peers[{}] is {listed} but this node advertises {own}; \
             set peer.advertise or cluster.ordinal so that they agree",
            config.cluster.ordinal
        ));
    }
    if !(1..=256).contains(&config.cluster.shard_groups) {
        return refuse("cluster.shard_groups must be 1 to 256");
    }
    if config.cluster.audit_retention_ms < AUDIT_RETENTION_MS_MIN {
        return refuse(format!(
            "cluster.audit_retention_ms is below {AUDIT_RETENTION_MS_MIN}; keep audit events for a day at least"
        ));
    }
    Ok(())
}

/// Browsers compare origins letter by letter: one with a path or a slash at its end would never match.
fn origins(origins: &[String]) -> Result<(), Failure> {
    for origin in origins {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
        if origin != "*" && !host.is_some_and(|host| !host.is_empty() && host.chars().all(plain)) {
            return refuse(format!(
                "client.cors_origins entry {origin:?} is no origin; write it as in https://console.example.com:8443"
            ));
        }
    }
    Ok(())
}

/// Ports that carry no client credentials rely on mutual TLS as soon as others can reach them.
fn listener(section: &str, listen: SocketAddr, tls: &Tls) -> Result<(), Failure> {
    // Before the files are opened: what is missing matters more than what is in the rest.
    if tls.enabled() && tls.ca.is_none() {
        return refuse(format!(
            "{section}.tls.ca is missing; the {section} port uses mutual TLS and needs the authority's certificate"
        ));
    }
    tls_files(section, tls)?;
    if !listen.ip().is_loopback() && !tls.enabled() {
        return refuse(format!(
            "{section}.listen is {listen}, which is not loopback; set {section}.tls.cert, key and ca \
             (`baton certs generate` makes them) or listen on 127.0.0.1"
        ));
    }
    Ok(())
}

fn tls_files(section: &str, tls: &Tls) -> Result<(), Failure> {
    if tls.cert.is_some() != tls.key.is_some() || (tls.ca.is_some() && tls.cert.is_none()) {
        return refuse(format!(
            "{section}.tls needs both cert and key; set both or remove the section"
        ));
    }
    for (name, file) in [("cert", &tls.cert), ("key", &tls.key), ("ca", &tls.ca)] {
        if let Some(path) = file
            && let Err(error) = std::fs::File::open(path)
        {
            return refuse(format!(
                "{section}.tls.{name}: cannot read {} ({error}); correct the path",
                path.display()
            ));
        }
    }
    // Whether they hold what they should, before anything else happens.
    crate::operator::tls::server_config(tls, section).map(drop)
}

/// One port cannot serve two purposes; 0 means a free one each.
fn own_ports(config: &Config) -> Result<(), Failure> {
    let ports = [
        ("client.listen", config.client.listen),
        ("peer.listen", config.peer.listen),
        ("operator.listen", config.operator.listen),
    ];
    for (n, (key, address)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..n]
            .iter()
            .find(|(_, a)| a == address && address.port() != 0)
        {
            return refuse(format!(
                "{other} and {key} are both {address}; give each its own port"
            ));
        }
    }
    Ok(())
}

fn refuse<T>(line: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::config(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        check(&config).unwrap();
        change(&mut config);
        let failure = check(&config).unwrap_err();
        assert_eq!(failure.code, ExitCode::Config);
        assert!(!failure.line.contains('\n'));
        failure.line
    }

    #[test]
    fn peer_and_operator_ports_off_loopback_need_mutual_tls() {
        let line = refused(|c| c.peer.listen = "0.0.0.0:8101".parse().unwrap());
        assert!(
            line.contains("peer.listen") && line.contains("peer.tls.cert"),
            "{line}"
        );
        let line = refused(|c| c.operator.listen = "[::]:1".parse().unwrap());
        assert!(line.contains("operator.tls.cert"), "{line}");
        // The client port authenticates every request itself.
        let mut open = Config::default();
        open.client.listen = "0.0.0.0:8100".parse().unwrap();
        check(&open).unwrap();
    }

    #[test]
    fn half_a_tls_section_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_path_buf();
        assert!(refused(|c| c.client.tls.cert = Some(path.clone())).contains("client.tls"));
        let line = refused(|c| {
            c.peer.tls.cert = Some(path.clone());
            c.peer.tls.key = Some(path.clone());
        });
        assert!(line.contains("peer.tls.ca"), "{line}");
        let line = refused(|c| {
            c.client.tls.cert = Some("/no/such/file".into());
            c.client.tls.key = Some(path.clone());
        });
        assert!(line.contains("/no/such/file"), "{line}");
    }

    #[test]
    fn tls_files_must_hold_what_they_are_named_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no pem").unwrap();
        let path = file.path().to_path_buf();
        let junk = Tls {
            cert: Some(path.clone()),
            key: Some(path.clone()),
            ca: Some(path.clone()),
        };
        for (section, line) in [
            ("client.tls", refused(|c| c.client.tls = junk.clone())),
            ("peer.tls", refused(|c| c.peer.tls = junk.clone())),
            ("operator.tls", refused(|c| c.operator.tls = junk.clone())),
        ] {
            assert!(
                line.contains(section) && line.contains(&path.display().to_string()),
                "{line}"
            );
            assert!(line.contains("baton certs generate"), "{line}");
        }
    }

    #[test]
    fn the_three_ports_differ() {
        let line = refused(|c| c.operator.listen = c.client.listen);
        assert!(line.contains("client.listen and operator.listen"), "{line}");
    }

    #[test]
    fn the_peer_list_must_fit_this_node() {
        let line = refused(|c| c.cluster.ordinal = 1);
        assert!(line.contains("cluster.ordinal is 1"), "{line}");
        let line = refused(|c| c.cluster.peers = vec!["127.0.0.1:9".into()]);
        assert!(line.contains("peer.advertise"), "{line}");
        let line = refused(|c| c.cluster.peers = vec![c.peer_address(), c.peer_address()]);
        assert!(line.contains("twice"), "{line}");
        let line = refused(|c| c.cluster.peers = vec!["nohost".into()]);
        assert!(line.contains("host:port"), "{line}");
    }

    #[test]
    fn audit_events_are_kept_for_a_day_at_least() {
        let line = refused(|c| c.cluster.audit_retention_ms = 0);
        assert!(line.contains("cluster.audit_retention_ms"), "{line}");
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        let mut config = Config::default();
        config.client.cors_origins = ["*", "https://console.example.com:8443", "http://[::1]:80"]
            .map(String::from)
            .into();
        check(&config).unwrap();
        for wrong in [
            "example.com",
            "https://",
            "https://a.example/",
            "https://A.example",
            "",
        ] {
            let line = refused(|c| c.client.cors_origins = vec![wrong.into()]);
            assert!(line.contains("client.cors_origins"), "{wrong}: {line}");
        }
    }

    #[test]
    fn a_bad_log_filter_is_refused() {
        assert!(refused(|c| c.log.filter = "a=b=c".into()).contains("log.filter"));
    }
}
