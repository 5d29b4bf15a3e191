//! Agents: who takes work.

use super::{number, text};
use baton_protocol::proto::v1;
use serde::Serialize;

/// A registered agent: a service account with an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Agent {
    pub agent_id: String,
    pub name: String,
    pub address: String,
    pub display_name: Option<String>,
    pub delivery_mode: Option<String>,
    pub org_id: String,
    pub workspace_id: String,
    /// Unix milliseconds.
    pub created_at_ms: u64,
    pub disabled: bool,
}

impl Agent {
    pub(crate) fn from_wire(agent: v1::Agent) -> Self {
        Self {
            agent_id: agent.agent_id,
            name: agent.name,
            address: agent.address,
            display_name: text(agent.display_name),
            delivery_mode: text(agent.delivery_mode),
            org_id: agent.org_id,
            workspace_id: agent.workspace_id,
            created_at_ms: agent.created_at_ms,
            disabled: agent.disabled,
        }
    }
}

/// An agent that was registered, or was there already.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Registration {
    pub agent: Agent,
    /// False: an agent of this name existed.
    pub created: bool,
    /// The new key, when one was asked for. It is shown once.
    pub api_key: Option<String>,
}

/// Without the key.
impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("agent", &self.agent)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// What waits for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Backlog {
    pub open_deliveries: u64,
    /// When the oldest of them came, unix milliseconds.
    pub oldest_at_ms: Option<u64>,
}

impl Backlog {
    pub(crate) fn from_wire(backlog: &v1::GetBacklogResponse) -> Self {
        Self {
            open_deliveries: backlog.open_deliveries,
            oldest_at_ms: number(backlog.oldest_at_ms),
        }
    }
}
