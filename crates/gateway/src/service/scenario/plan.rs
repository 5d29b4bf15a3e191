//! The pure half of the compiler: which step does what and where it leads. Finds every problem, not just the first.

use std::collections::HashSet;

use baton_protocol::ServiceError;
use baton_protocol::address::{Address, sa_name_from};
use baton_protocol::limits::{
    BUNDLE_AGENTS_MAX, BUNDLE_HUMANS_MAX, BUNDLE_STEPS_MAX, STEP_RETRIES_MAX, STEP_SECONDS_MAX,
};
use baton_protocol::proto::internal::Reminders;

use super::kinds::{Target, target};
use super::{Bundle, BundleAgent, Findings, Step, edges};

/// One step with its edges as index + 1; 0 = end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedStep {
    pub(super) target: Target,
    pub(super) on_success: u32,
    pub(super) on_failure: u32,
    /// 0 = none.
    pub(super) deadline_seconds: u32,
    pub(super) reminders: Option<Reminders>,
}

/// The compiled shape of a workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<PlannedStep>,
    /// Index of the first step.
    pub(super) entry: u32,
}

/// Checks `bundle` and compiles its workflow. The plan is only usable when there are no errors.
pub(super) fn plan(bundle: &Bundle) -> (Plan, Findings) {
    let mut findings = Findings::default();
    check_lists(bundle, &mut findings);
    check_step_ids(bundle, &mut findings);
    if let Some(id) = &bundle.macro_id {
        findings.errors.push(format!(
            "workflow.macro_id names no macro of this server: {id}; list the steps in workflow.steps"
        ));
    }
    let mut plan = Plan::default();
    for (index, step) in bundle.steps.iter().enumerate() {
        let planned = plan_step(bundle, index, step, &mut findings);
        plan.steps.push(planned);
    }
    match bundle
        .entry_step
        .as_deref()
        .map(|id| (id, edges::position(bundle, id)))
    {
        None => {}
        Some((_, Some(index))) => plan.entry = index,
        Some((id, None)) => findings
            .errors
            .push(format!("workflow.entry_step names no step: {id}")),
    }
    if findings.errors.is_empty() {
        settle_settings(&mut plan);
        edges::check(bundle, &plan, &mut findings);
    }
    (plan, findings)
}

fn check_lists(bundle: &Bundle, findings: &mut Findings) {
    let mut too_many = |field: &str, len: usize, max: usize| {
        if len > max {
            findings
                .errors
                .push(format!("{field} holds {len} entries, at most {max} are allowed"));
        }
    };
    too_many("agents", bundle.agents.len(), BUNDLE_AGENTS_MAX);
    too_many("humans", bundle.humans.len(), BUNDLE_HUMANS_MAX);
    too_many("workflow.steps", bundle.steps.len(), BUNDLE_STEPS_MAX);
    let mut roles = HashSet::new();
    for (index, agent) in bundle.agents.iter().enumerate() {
        if let Err(error) = check_address(agent) {
            findings
                .errors
                .push(format!("agents[{index}].address: {}", error.message));
        }
        if let Some(role) = &agent.role
            && !roles.insert(role.as_str())
        {
            findings
                .errors
                .push(format!("agents[{index}].role is used twice: {role}"));
        }
    }
    for (index, human) in bundle.humans.iter().enumerate() {
        if let Some(role) = &human.role
            && !roles.insert(role.as_str())
        {
            findings
                .errors
                .push(format!("humans[{index}].role is used twice: {role}"));
        }
    }
}

/// An agent that may have to be created needs a name for it: known before anything is created.
fn check_address(agent: &BundleAgent) -> Result<(), ServiceError> {
    let address = Address::parse(&agent.address)?;
    if agent.create_if_missing && address != Address::AgentCore {
        sa_name_from(&agent.address)?;
    }
    Ok(())
}

fn check_step_ids(bundle: &Bundle, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for (index, step) in bundle.steps.iter().enumerate() {
        if !seen.insert(step.step_id.as_str()) {
            findings.errors.push(format!(
                "workflow.steps[{index}].step_id is used twice: {}",
                step.step_id
            ));
        }
    }
}

fn plan_step(bundle: &Bundle, index: usize, step: &Step, findings: &mut Findings) -> PlannedStep {
    let target = match target(bundle, step) {
        Ok(target) => target,
        Err(problem) => {
            findings.errors.push(format!("workflow.steps[{index}]{problem}"));
            Target::Noop
        }
    };
    check_numbers(index, step, &target, findings);
    warn(index, step, &target, findings);
    let (on_success, on_failure) = edges::of_step(bundle, index, findings);
    PlannedStep {
        on_success,
        on_failure,
        target,
        deadline_seconds: step.step_deadline_seconds,
        reminders: step.reminders.clone(),
    }
}

fn check_numbers(index: usize, step: &Step, target: &Target, findings: &mut Findings) {
    for (field, number, max) in [
        ("retry.max_retries", step.max_retries, STEP_RETRIES_MAX),
        (
            "retry.retry_delay_seconds",
            step.retry_delay_seconds,
            STEP_SECONDS_MAX,
        ),
        (
            "step_deadline_seconds",
            step.step_deadline_seconds,
            STEP_SECONDS_MAX,
        ),
        ("seconds", target.seconds(), STEP_SECONDS_MAX),
    ] {
        if number > max {
            findings.errors.push(format!(
                "workflow.steps[{index}].{field} is {number}, at most {max} is allowed"
            ));
        }
    }
}

fn warn(index: usize, step: &Step, target: &Target, findings: &mut Findings) {
    let mut warn = |text: String| findings.warnings.push(format!("workflow.steps[{index}]{text}"));
    if let Target::Address(address) = target
        && !address.contains('/')
    {
        warn(format!(
            ".assigned_to matches no role or agent of this bundle, the step goes to the agent named {address}"
        ));
    }
    if let Target::Delay(seconds) = target
        && (1..*seconds).contains(&step.step_deadline_seconds)
    {
        warn(".step_deadline_seconds is shorter than the delay: the step will time out".into());
    }
    let is_agent = matches!(target, Target::Agent(_) | Target::Address(_));
    if step.human_task.is_some() && is_agent && !step.requires_approval {
        warn(".human_task: set requires_approval to ask a person after the agent is done".into());
    }
    if step.on_failure.is_some() && target.is_instant() {
        warn(".on_failure: this step cannot fail".into());
    }
}

/// Steps that only set a deadline or reminders hand them to the wait behind them; in front of anything else they are a
/// wait for time themselves.
fn settle_settings(plan: &mut Plan) {
    for index in 0..plan.steps.len() {
        let step = &plan.steps[index];
        let (target, reminders) = (step.target.clone(), step.reminders.clone());
        let next = (step.on_success as usize).checked_sub(1);
        let next = next.and_then(|next| plan.steps.get_mut(next));
        let becomes = match (&target, next) {
            (Target::Deadline(seconds), Some(next)) if next.target.is_wait() => {
                next.deadline_seconds = match next.deadline_seconds {
                    0 => *seconds,
                    own => own.min(*seconds),
                };
                Target::Noop
            }
            (Target::Reminder(seconds), Some(next)) if next.target.is_wait() => {
                let mut set = reminders.unwrap_or_default();
                set.remind_after_seconds = *seconds;
                next.reminders.get_or_insert(set);
                Target::Noop
            }
            (Target::Deadline(seconds) | Target::Reminder(seconds), _) => Target::Delay(*seconds),
            _ => continue,
        };
        plan.steps[index].target = becomes;
    }
}
