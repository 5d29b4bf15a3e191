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
    /// Where deliveries are posted when the delivery mode is `http`.
    pub callback_url: Option<String>,
    /// When the callback secret was last set, unix milliseconds.
    pub callback_secret_set_at_ms: Option<u64>,
    /// When the endpoint said that it is gone, unix milliseconds: nothing is posted until the callback is set anew.
    pub callback_disabled_at_ms: Option<u64>,
    pub callback_disabled_reason: Option<String>,
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
            callback_url: text(agent.callback_url),
            callback_secret_set_at_ms: number(agent.callback_secret_set_at_ms),
            callback_disabled_at_ms: number(agent.callback_disabled_at_ms),
            callback_disabled_reason: text(agent.callback_disabled_reason),
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
    /// What posts to it are signed with, when this call set it. It is shown once.
    pub callback_secret: Option<String>,
}

/// Without the secrets.
impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("agent", &self.agent)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// An agent whose callback was changed.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallbackChange {
    pub agent: Agent,
    /// The new secret, when this call set one. It is shown once.
    pub callback_secret: Option<String>,
}

/// Without the secret.
impl std::fmt::Debug for CallbackChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallbackChange")
            .field("agent", &self.agent)
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
