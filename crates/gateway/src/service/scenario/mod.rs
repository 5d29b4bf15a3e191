//! Scenario bundles: check, compile, provision, start.

mod apply;
mod compile;
mod edges;
mod kinds;
mod plan;
#[cfg(test)]
mod tests;

use super::submit::Submit;
use baton_protocol::proto::internal::{HumanTask, Notification, Reminders};

pub(crate) use apply::{ScenarioApplied, StartedAgent};

/// A bundle as decoded, before its references are checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bundle {
    pub scenario_id: String,
    pub agents: Vec<BundleAgent>,
    pub humans: Vec<BundleHuman>,
    pub macro_id: Option<String>,
    pub entry_step: Option<String>,
    pub steps: Vec<Step>,
    /// The parent intent; its recipient is filled in by the compiler.
    pub intent: Submit,
}

/// One entry of `agents`.
#[derive(Debug, Clone, Default)]
pub(crate) struct BundleAgent {
    pub role: Option<String>,
    pub address: String,
    pub create_if_missing: bool,
    pub display_name: Option<String>,
    pub delivery_mode: Option<String>,
    pub callback_url: Option<String>,
}

/// One entry of `humans`.
#[derive(Debug, Clone, Default)]
pub(crate) struct BundleHuman {
    pub role: Option<String>,
    /// An address, an e-mail address, or whatever the bundle calls the person by.
    pub contact: Option<String>,
    pub display_name: Option<String>,
}

/// One entry of `workflow.steps`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub step_id: String,
    pub tool_id: Option<String>,
    pub runtime_type: Option<String>,
    pub assigned_to: Option<String>,
    pub requires_approval: bool,
    pub human_task: Option<HumanTask>,
    /// 0 = none.
    pub step_deadline_seconds: u32,
    pub max_retries: u32,
    pub retry_delay_seconds: u32,
    /// JSON object; empty when none.
    pub input: bytes::Bytes,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    pub reminders: Option<Reminders>,
    pub config: StepConfig,
}

/// Settings of an internal step: `runtime_config`, `config` or `input`, whichever names them first.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepConfig {
    pub seconds: Option<u32>,
    pub escalate_to: Option<String>,
    pub notification: Notification,
}

impl StepConfig {
    /// Takes from `other` what is not set yet.
    pub(crate) fn fill(&mut self, other: Self) {
        let own = &mut self.notification;
        let Notification {
            channels,
            subject,
            body,
        } = other.notification;
        self.seconds = self.seconds.or(other.seconds);
        self.escalate_to = self.escalate_to.take().or(other.escalate_to);
        if own.channels.is_empty() {
            own.channels = channels;
        }
        if own.subject.is_empty() {
            own.subject = subject;
        }
        if own.body.is_empty() {
            own.body = body;
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Checks references, limits and where the steps lead.
    pub(crate) fn check(&self) -> Findings {
        plan::plan(self).1
    }
}
