//! `baton cluster`.

use super::connect::ConnectArgs;
use crate::exit::{ExitCode, Failure};
use crate::output::{Output, list, properties};
use baton_client::{ClusterStatus, Group};
use clap::{Args, Subcommand};
use comfy_table::{Cell, Color, Table};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  baton cluster status\n  baton cluster transfer-leader 3 --to 2")]
pub(super) struct ClusterCommandArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Show the nodes; exit 1 unless all are reachable and every group has a leader
    #[command(after_help = "Example: baton cluster status -o json | jq .groups_without_leader")]
    Status(PlainArgs),
    /// Show the groups: leader, term, how far the log is applied
    #[command(after_help = "Example: baton cluster groups")]
    Groups(PlainArgs),
    /// Show which node leads which groups
    #[command(after_help = "Example: baton cluster leaders")]
    Leaders(PlainArgs),
    /// Move the leadership of a group to a node
    #[command(
        after_help = "The cluster spreads leaders by itself: while the group's usual node is well, it takes the group back within seconds.\n\nExample: baton cluster transfer-leader 3 --to 2"
    )]
    TransferLeader(TransferArgs),
}

#[derive(Debug, Args)]
struct PlainArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct TransferArgs {
    /// Number of the group
    group: u32,
    /// Id of the node that shall lead it
    #[arg(long, value_name = "NODE")]
    to: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Leadership {
    node_id: u64,
    groups: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Transferred {
    group_id: u32,
    leader_node_id: u64,
}

pub(super) async fn run(args: ClusterCommandArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        ClusterCommand::Status(args) => status(args, out).await,
        ClusterCommand::Groups(args) => {
            let groups = args.connect.client()?.groups().await?;
            out.result(&groups, &[group_table(&groups)]);
            Ok(())
        }
        ClusterCommand::Leaders(args) => leaders(args, out).await,
        ClusterCommand::TransferLeader(args) => transfer(args, out).await,
    }
}

async fn status(args: PlainArgs, out: Output) -> Result<(), Failure> {
    let status = args.connect.client()?.cluster_status().await?;
    let head = properties(vec![
        ("cluster", Some(Cell::new(&status.cluster_id))),
        ("version", Some(Cell::new(&status.version))),
        (
            "groups",
            Some(Cell::new(format!("{} and meta", status.shard_groups))),
        ),
        ("without leader", Some(Cell::new(status.groups_without_leader))),
        ("seen by node", Some(Cell::new(status.node_id))),
    ]);
    out.result(&status, &[head, node_table(&status)]);
    healthy(&status)
}

fn healthy(status: &ClusterStatus) -> Result<(), Failure> {
    let gone: Vec<_> = status.nodes.iter().filter(|node| !node.reachable).collect();
    if let Some(node) = gone.first() {
        let line = format!(
            "{} of {} nodes cannot be reached, node {} at {} among them; see its log",
            gone.len(),
            status.nodes.len(),
            node.node_id,
            node.peer_address
        );
        return Err(Failure::new(ExitCode::Failed, line));
    }
    if status.groups_without_leader > 0 {
        let count = status.groups_without_leader;
        let line = format!("{count} groups have no leader; if that lasts, see the nodes' logs");
        return Err(Failure::new(ExitCode::Failed, line));
    }
    Ok(())
}

pub(super) fn node_table(status: &ClusterStatus) -> Table {
    let mut table = list(&["node", "client", "peer", "reachable", "leads", "clock"]);
    for node in &status.nodes {
        let reachable = if node.reachable {
            Cell::new("yes").fg(Color::Green)
        } else {
            Cell::new("no").fg(Color::Red)
        };
        table.add_row([
            Cell::new(node.node_id),
            Cell::new(&node.client_address),
            Cell::new(&node.peer_address),
            reachable,
            Cell::new(node.groups_led),
            Cell::new(format!("{:+} ms", node.clock_offset_ms)),
        ]);
    }
    table
}

pub(super) fn group_table(groups: &[Group]) -> Table {
    let mut table = list(&[
        "group", "leader", "term", "log", "applied", "behind", "intents", "voters",
    ]);
    for group in groups {
        let leader = match group.leader_node_id {
            Some(node) => Cell::new(node),
            None => Cell::new("none").fg(Color::Red),
        };
        let voters: Vec<_> = group.voter_node_ids.iter().map(u64::to_string).collect();
        table.add_row([
            Cell::new(name(group.group_id)),
            leader,
            Cell::new(group.term),
            Cell::new(group.last_log_index),
            Cell::new(group.applied_index),
            Cell::new(group.last_log_index.saturating_sub(group.applied_index)),
            Cell::new(group.intents),
            Cell::new(voters.join(",")),
        ]);
    }
    table
}

fn name(group_id: u32) -> String {
    match group_id {
        id if id == baton_protocol::META_GROUP.0 => format!("{id} (meta)"),
        id => id.to_string(),
    }
}

async fn leaders(args: PlainArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let status = client.cluster_status().await?;
    let mut by_node: BTreeMap<u64, Vec<u32>> = status
        .nodes
        .iter()
        .map(|node| (node.node_id, Vec::new()))
        .collect();
    for group in client.groups().await? {
        // Those without a leader are shown as node 0's.
        let node = group.leader_node_id.unwrap_or(0);
        by_node.entry(node).or_default().push(group.group_id);
    }
    let mut table = list(&["node", "leads", "groups"]);
    let mut rows = Vec::new();
    for (node_id, groups) in by_node {
        let names: Vec<_> = groups.iter().map(u32::to_string).collect();
        let node = if node_id == 0 {
            "none".into()
        } else {
            node_id.to_string()
        };
        table.add_row([node, groups.len().to_string(), names.join(",")]);
        rows.push(Leadership { node_id, groups });
    }
    out.result(&rows, &[table]);
    Ok(())
}

async fn transfer(args: TransferArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let leader_node_id = client.transfer_leader(args.group, args.to).await?;
    let done = Transferred {
        group_id: args.group,
        leader_node_id,
    };
    let said = format!("node {leader_node_id} leads group {}", args.group);
    out.result(&done, &[properties(vec![("", Some(Cell::new(said)))])]);
    Ok(())
}
