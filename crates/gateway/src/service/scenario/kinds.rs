//! What a step does: the first rule that matches decides (surface 5.2).

use baton_protocol::address::{AGENT_CORE, Address};

use super::{Bundle, Step};

const HUMAN_TOOLS: [&str; 3] = [
    "tool.approval.human_signoff",
    "tool.human.approval.v1",
    "tool.notification.notify_owner",
];
const RUNTIME_TYPES: &str = "human_approval, timeout, reminder, delay, escalation, notification";

/// What a step runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// An entry of `agents`, by index.
    Agent(usize),
    /// An address that is not in `agents`.
    Address(String),
    /// A question to an entry of `humans`, or to whoever may answer.
    Gate(Option<usize>),
    /// Lets so many seconds pass.
    Delay(u32),
    Notification,
    /// Calls in who is named.
    Escalation(String),
    /// Sets a deadline of so many seconds on the wait that follows; alone it lets them pass.
    Deadline(u32),
    /// Sets reminders on the question that follows; alone it lets the time to the first one pass.
    Reminder(u32),
    /// Finishes at once.
    Noop,
}

impl Target {
    /// Whether the scenario waits here for somebody.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::Address(_) | Self::Gate(_))
    }

    /// How long the step itself lets pass, or asks for.
    pub(super) fn seconds(&self) -> u32 {
        match self {
            Self::Delay(seconds) | Self::Deadline(seconds) | Self::Reminder(seconds) => *seconds,
            Self::Agent(_)
            | Self::Address(_)
            | Self::Gate(_)
            | Self::Notification
            | Self::Escalation(_)
            | Self::Noop => 0,
        }
    }

    /// Whether the scenario goes on in the same moment.
    pub(super) fn is_instant(&self) -> bool {
        matches!(self, Self::Notification | Self::Escalation(_) | Self::Noop)
    }
}

/// Finds out what a step does. An error starts with the rest of the field's path.
pub(super) fn target(bundle: &Bundle, step: &Step) -> Result<Target, String> {
    if let Some(kind) = step.runtime_type.as_deref() {
        return of_runtime_type(bundle, step, kind);
    }
    let tool = step.tool_id.as_deref().unwrap_or_default();
    match tool {
        "tool.internal.delay" => return delay(step, ".input").map(Target::Delay),
        "tool.internal.notification" => return Ok(Target::Notification),
        "tool.internal.escalation" => return escalation(bundle, step, ".input"),
        _ => {}
    }
    let human = human_of(bundle, step);
    let asks = step.human_task.is_some() || step.requires_approval;
    if HUMAN_TOOLS.contains(&tool) || (asks && (human.is_some() || step.assigned_to.is_none())) {
        return Ok(Target::Gate(human));
    }
    of_assignment(bundle, step, human)
}

fn of_runtime_type(bundle: &Bundle, step: &Step, kind: &str) -> Result<Target, String> {
    match kind {
        "human_approval" => Ok(Target::Gate(human_of(bundle, step))),
        "delay" => delay(step, ".runtime_config").map(Target::Delay),
        "timeout" => delay(step, ".runtime_config").map(Target::Deadline),
        "reminder" => {
            let first = step.reminders.as_ref().map_or(0, |r| r.remind_after_seconds);
            match first {
                0 => delay(step, ".runtime_config").map(Target::Reminder),
                seconds => Ok(Target::Reminder(seconds)),
            }
        }
        "escalation" => escalation(bundle, step, ".runtime_config"),
        "notification" => Ok(Target::Notification),
        other => Err(format!(
            ".runtime_type is {other}; it must be one of {RUNTIME_TYPES}"
        )),
    }
}

fn delay(step: &Step, field: &str) -> Result<u32, String> {
    step.config
        .seconds
        .ok_or_else(|| format!("{field}.seconds is required"))
}

/// The named target, the person of that role, or who the intent would be escalated to.
fn escalation(bundle: &Bundle, step: &Step, field: &str) -> Result<Target, String> {
    let of_step = step.reminders.as_ref().map(|r| r.escalate_to.as_str());
    let of_intent = bundle.intent.reminders.as_ref().map(|r| r.escalate_to.as_str());
    let named = [
        step.config.escalate_to.as_deref(),
        of_step,
        step.assigned_to.as_deref(),
        of_intent,
    ];
    let name = named
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .ok_or_else(|| format!("{field}.escalate_to is required"))?;
    Ok(Target::Escalation(
        super::compile::person(bundle, name).to_owned(),
    ))
}

fn of_assignment(bundle: &Bundle, step: &Step, human: Option<usize>) -> Result<Target, String> {
    let tool = step.tool_id.as_deref().unwrap_or_default();
    let Some(assigned) = step.assigned_to.as_deref() else {
        return if tool.is_empty() {
            Ok(Target::Noop)
        } else {
            Err(format!(
                ".assigned_to is missing; name the agent that runs tool {tool}"
            ))
        };
    };
    if let Some(agent) = agent_of(bundle, assigned) {
        // The internal runtime is no agent that could be waited for.
        return match Address::parse(&bundle.agents[agent].address) {
            Ok(Address::AgentCore) => of_runtime(tool),
            _ => Ok(Target::Agent(agent)),
        };
    }
    if human.is_some() {
        return Ok(Target::Gate(human));
    }
    match Address::parse(assigned) {
        Ok(Address::AgentCore) => of_runtime(tool),
        Ok(_) => Ok(Target::Address(assigned.to_owned())),
        Err(error) => Err(format!(".assigned_to: {}", error.message)),
    }
}

fn of_runtime(tool: &str) -> Result<Target, String> {
    if tool.is_empty() {
        Ok(Target::Noop)
    } else {
        Err(format!(".tool_id: tool {tool} is unknown to {AGENT_CORE}"))
    }
}

pub(super) fn agent_of(bundle: &Bundle, assigned: &str) -> Option<usize> {
    let by_role = bundle
        .agents
        .iter()
        .position(|a| a.role.as_deref() == Some(assigned));
    by_role.or_else(|| {
        bundle
            .agents
            .iter()
            .position(|a| same_agent(&a.address, assigned))
    })
}

/// The entry of `humans` that a step is assigned to, unless an agent has that role.
fn human_of(bundle: &Bundle, step: &Step) -> Option<usize> {
    let assigned = step.assigned_to.as_deref()?;
    if agent_of(bundle, assigned).is_some() {
        return None;
    }
    bundle
        .humans
        .iter()
        .position(|h| h.role.as_deref() == Some(assigned) || h.contact.as_deref() == Some(assigned))
}

fn same_agent(a: &str, b: &str) -> bool {
    a == b || matches!((Address::parse(a), Address::parse(b)), (Ok(a), Ok(b)) if a == b)
}
