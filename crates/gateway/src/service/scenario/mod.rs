//! Scenario bundles: check, compile, provision, start.

mod apply;
mod plan;

use super::submit::Submit;

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
}

/// One entry of `workflow.steps`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub step_id: String,
    pub tool_id: Option<String>,
    pub runtime_type: Option<String>,
    pub assigned_to: Option<String>,
    pub requires_approval: bool,
    pub has_human_task: bool,
    /// 0 = none.
    pub step_deadline_seconds: u32,
    pub max_retries: u32,
    pub retry_delay_seconds: u32,
    /// JSON object; empty when none.
    pub input: bytes::Bytes,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    /// Reminder or escalation settings are present.
    pub has_reminders: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Checks references, limits and what this version can run.
    pub(crate) fn check(&self) -> Findings {
        plan::plan(self).1
    }
}
