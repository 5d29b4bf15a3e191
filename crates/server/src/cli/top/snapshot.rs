//! One look at the cluster, and what changed since the one before.

use crate::cli::agents::BacklogRow;
use crate::cli::cluster::node_table;
use crate::exit::Failure;
use crate::output::{list, properties};
use baton_client::{Client, ClusterStatus, Group};
use comfy_table::{Cell, Table};
use futures::StreamExt as _;
use serde::Serialize;
use std::collections::HashMap;
use tokio::time::Instant;

/// Agents whose backlog is asked for.
const AGENTS_MAX: usize = 200;
/// Questions about backlogs at one time.
const ASK_AT_ONCE: usize = 8;
/// Backlogs that are shown.
const BACKLOGS_SHOWN: usize = 10;

#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    status: ClusterStatus,
    groups: Vec<Group>,
    /// The longest first.
    backlogs: Vec<BacklogRow>,
    #[serde(skip)]
    at: Instant,
}

/// Log entries applied per second, by group.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<u32, f64>);

impl Rates {
    pub(super) fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let earlier: HashMap<u32, u64> = before
            .groups
            .iter()
            .map(|group| (group.group_id, group.applied_index))
            .collect();
        let rate = |group: &Group| {
            let from = earlier.get(&group.group_id)?;
            #[expect(clippy::cast_precision_loss, reason = "shown with no decimals")]
            let entries = group.applied_index.saturating_sub(*from) as f64;
            Some((group.group_id, entries / seconds))
        };
        Self(now.groups.iter().filter_map(rate).collect())
    }

    fn text(&self, group_id: u32) -> String {
        self.0
            .get(&group_id)
            .map_or_else(String::new, |rate| format!("{rate:.0}"))
    }
}

impl Snapshot {
    pub(super) async fn take(client: &Client) -> Result<Self, Failure> {
        let (status, groups, agents) =
            tokio::try_join!(client.cluster_status(), client.groups(), client.list_agents())?;
        let asked = agents.into_iter().take(AGENTS_MAX).map(|agent| async move {
            let backlog = client.backlog(&agent.address).await?;
            Ok::<_, baton_client::Error>(BacklogRow {
                agent: agent.address,
                backlog,
            })
        });
        let answers: Vec<_> = futures::stream::iter(asked)
            .buffer_unordered(ASK_AT_ONCE)
            .collect()
            .await;
        let rows = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut backlogs: Vec<_> = rows
            .into_iter()
            .filter(|row| row.backlog.open_deliveries > 0)
            .collect();
        backlogs.sort_by_key(|row| std::cmp::Reverse(row.backlog.open_deliveries));
        backlogs.truncate(BACKLOGS_SHOWN);
        Ok(Self {
            status,
            groups,
            backlogs,
            at: Instant::now(),
        })
    }

    pub(super) fn tables(&self, rates: &Rates) -> Vec<Table> {
        vec![
            self.head(),
            node_table(&self.status),
            self.group_table(rates),
            self.backlog_table(),
        ]
    }

    /// The same for a screen, with a gap between the parts.
    pub(super) fn lines(&self, rates: &Rates) -> Vec<String> {
        let mut lines = Vec::new();
        for mut table in self.tables(rates) {
            table.force_no_tty();
            lines.extend(table.trim_fmt().lines().map(str::to_owned));
            lines.push(String::new());
        }
        lines.push("q ends".into());
        lines
    }

    fn head(&self) -> Table {
        let status = &self.status;
        let intents: u64 = self.groups.iter().map(|group| group.intents).sum();
        let reachable = status.nodes.iter().filter(|node| node.reachable).count();
        let nodes = format!("{reachable} of {} reachable", status.nodes.len());
        let leaders = match status.groups_without_leader {
            0 => "every group has one".to_owned(),
            n => format!("{n} groups have none"),
        };
        properties(vec![
            ("cluster", Some(Cell::new(&status.cluster_id))),
            ("nodes", Some(Cell::new(nodes))),
            ("leaders", Some(Cell::new(leaders))),
            ("intents kept", Some(Cell::new(intents))),
        ])
    }

    fn group_table(&self, rates: &Rates) -> Table {
        let mut table = list(&[
            "group",
            "leader",
            "term",
            "applied",
            "behind",
            "applied/s",
            "intents",
        ]);
        for group in &self.groups {
            let leader = group
                .leader_node_id
                .map_or_else(|| "none".into(), |node| node.to_string());
            table.add_row([
                group.group_id.to_string(),
                leader,
                group.term.to_string(),
                group.applied_index.to_string(),
                group
                    .last_log_index
                    .saturating_sub(group.applied_index)
                    .to_string(),
                rates.text(group.group_id),
                group.intents.to_string(),
            ]);
        }
        table
    }

    fn backlog_table(&self) -> Table {
        let mut table = list(&["backlog of", "open", "oldest"]);
        for row in &self.backlogs {
            table.add_row([
                row.agent.clone(),
                row.backlog.open_deliveries.to_string(),
                row.age(),
            ]);
        }
        if self.backlogs.is_empty() {
            table.add_row(["nobody waits", "", ""]);
        }
        table
    }
}
