//! The pure half of the compiler: which step does what and where it leads. Finds every problem, not just the first.

use std::collections::HashSet;

use baton_protocol::ServiceError;
use baton_protocol::address::{AGENT_CORE, Address, sa_name_from};
use baton_protocol::limits::{BUNDLE_AGENTS_MAX, BUNDLE_HUMANS_MAX, BUNDLE_STEPS_MAX};

use super::{Bundle, BundleAgent, Findings, Step};

const HUMAN_TOOLS: [&str; 3] = [
    "tool.approval.human_signoff",
    "tool.human.approval.v1",
    "tool.notification.notify_owner",
];
const INTERNAL_TOOLS: [&str; 3] = [
    "tool.internal.delay",
    "tool.internal.notification",
    "tool.internal.escalation",
];

/// What a step runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// An entry of `agents`, by index.
    Agent(usize),
    /// An address that is not in `agents`.
    Address(String),
    /// Finishes at once.
    Noop,
}

/// One step with its edges as index + 1; 0 = end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedStep {
    pub(super) target: Target,
    pub(super) on_success: u32,
    pub(super) on_failure: u32,
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
    if bundle.macro_id.is_some() {
        findings
            .errors
            .push("workflow.macro_id is not supported by this version; list the steps".into());
    }
    let mut plan = Plan::default();
    for (index, step) in bundle.steps.iter().enumerate() {
        let planned = plan_step(bundle, index, step, &mut findings);
        plan.steps.push(planned);
    }
    match bundle.entry_step.as_deref().map(|id| (id, position(bundle, id))) {
        None => {}
        Some((_, Some(index))) => plan.entry = index,
        Some((id, None)) => findings
            .errors
            .push(format!("workflow.entry_step names no step: {id}")),
    }
    if findings.errors.is_empty()
        && let Some(index) = find_cycle(&plan)
    {
        findings.errors.push(format!(
            "workflow.steps[{index}] ({}) leads back to itself; use retry to run a step again",
            bundle.steps[index].step_id
        ));
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
    if let Target::Address(address) = &target
        && !address.contains('/')
    {
        findings.warnings.push(format!(
            "workflow.steps[{index}].assigned_to matches no role or agent of this bundle, \
             the step goes to the agent named {address}"
        ));
    }
    if step.has_reminders {
        findings.warnings.push(format!(
            "workflow.steps[{index}]: reminders and escalation are ignored for agent steps"
        ));
    }
    let mut edge = |field: &str, to: Option<&String>, default: u32| match to {
        None => default,
        Some(id) => position(bundle, id).map_or_else(
            || {
                findings.errors.push(format!(
                    "workflow.steps[{index}].{field} names no step of this workflow: {id}"
                ));
                0
            },
            |to| to + 1,
        ),
    };
    let following = if index + 1 < bundle.steps.len() {
        index as u32 + 2
    } else {
        0
    };
    PlannedStep {
        on_success: edge("on_success", step.on_success.as_ref(), following),
        on_failure: edge("on_failure", step.on_failure.as_ref(), 0),
        target,
    }
}

/// The first rule that matches decides. An error starts with the rest of the field's path.
fn target(bundle: &Bundle, step: &Step) -> Result<Target, String> {
    let unsupported =
        |field: &str, what: &str| Err(format!("{field}: {what} is not supported by this version"));
    if let Some(kind) = &step.runtime_type {
        return unsupported(".runtime_type", kind);
    }
    let tool = step.tool_id.as_deref().unwrap_or_default();
    if INTERNAL_TOOLS.contains(&tool) || HUMAN_TOOLS.contains(&tool) {
        return unsupported(".tool_id", tool);
    }
    if step.has_human_task {
        return unsupported(".human_task", "a human task");
    }
    if step.requires_approval {
        return unsupported(".requires_approval", "a human approval");
    }
    let Some(assigned) = step.assigned_to.as_deref() else {
        return if tool.is_empty() {
            Ok(Target::Noop)
        } else {
            Err(format!(
                ".assigned_to is missing; name the agent that runs tool {tool}"
            ))
        };
    };
    let by_role = bundle
        .agents
        .iter()
        .position(|a| a.role.as_deref() == Some(assigned));
    let by_address = || {
        bundle
            .agents
            .iter()
            .position(|a| same_agent(&a.address, assigned))
    };
    let agent = by_role.or_else(by_address);
    let assigned = match agent.and_then(|index| bundle.agents.get(index)) {
        // The internal runtime is no agent that could be waited for.
        Some(listed) if matches!(Address::parse(&listed.address), Ok(Address::AgentCore)) => AGENT_CORE,
        _ => assigned,
    };
    if let Some(agent) = agent
        && assigned != AGENT_CORE
    {
        return Ok(Target::Agent(agent));
    }
    if bundle.humans.iter().any(|h| h.role.as_deref() == Some(assigned)) {
        return unsupported(".assigned_to", "a step for a human");
    }
    match Address::parse(assigned) {
        Ok(Address::AgentCore) if tool.is_empty() => Ok(Target::Noop),
        Ok(Address::AgentCore) => unsupported(".tool_id", &format!("tool {tool} of {AGENT_CORE}")),
        Ok(_) => Ok(Target::Address(assigned.to_owned())),
        Err(error) => Err(format!(".assigned_to: {}", error.message)),
    }
}

fn same_agent(a: &str, b: &str) -> bool {
    a == b || matches!((Address::parse(a), Address::parse(b)), (Ok(a), Ok(b)) if a == b)
}

fn position(bundle: &Bundle, step_id: &str) -> Option<u32> {
    bundle
        .steps
        .iter()
        .position(|s| s.step_id == step_id)
        .map(|i| i as u32)
}

/// A step that can be reached from itself: such a workflow would never end.
fn find_cycle(plan: &Plan) -> Option<usize> {
    (0..plan.steps.len()).find(|&start| {
        let mut seen = vec![false; plan.steps.len()];
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            for next in [plan.steps[at].on_success, plan.steps[at].on_failure] {
                let Some(next) = (next as usize).checked_sub(1) else {
                    continue;
                };
                if next == start {
                    return true;
                }
                if !std::mem::replace(&mut seen[next], true) {
                    open.push(next);
                }
            }
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::super::BundleAgent;
    use super::super::BundleHuman;
    use super::*;

    fn step(id: &str, assigned: Option<&str>) -> Step {
        Step {
            step_id: id.into(),
            assigned_to: assigned.map(Into::into),
            ..Step::default()
        }
    }

    fn bundle(steps: Vec<Step>) -> Bundle {
        Bundle {
            scenario_id: "s.demo.v1".into(),
            agents: vec![BundleAgent {
                role: Some("worker".into()),
                address: "payment-service-demo".into(),
                ..BundleAgent::default()
            }],
            humans: vec![BundleHuman {
                role: Some("boss".into()),
            }],
            steps,
            ..Bundle::default()
        }
    }

    fn errors(steps: Vec<Step>) -> Vec<String> {
        bundle(steps).check().errors
    }

    #[test]
    fn steps_run_in_order_by_role_or_address() {
        let steps = vec![
            step("a", Some("worker")),
            step("b", Some("agent://payment-service-demo")),
            step("c", None),
            step("d", Some("agent://acme/prod/other")),
        ];
        let (plan, findings) = plan(&bundle(steps));
        assert_eq!(findings, Findings::default());
        let targets: Vec<_> = plan.steps.iter().map(|s| s.target.clone()).collect();
        assert_eq!(
            targets,
            [
                Target::Agent(0),
                Target::Agent(0),
                Target::Noop,
                Target::Address("agent://acme/prod/other".into()),
            ]
        );
        let next: Vec<_> = plan.steps.iter().map(|s| s.on_success).collect();
        assert_eq!(next, [2, 3, 4, 0]);
    }

    #[test]
    fn every_problem_is_named_with_its_field() {
        let mut human = step("a", Some("boss"));
        human.on_success = Some("nowhere".into());
        let mut delay = step("a", None);
        delay.runtime_type = Some("delay".into());
        let found = errors(vec![human, delay]);
        for part in [
            "workflow.steps[1].step_id is used twice",
            "workflow.steps[0].assigned_to",
            "workflow.steps[0].on_success names no step",
            "workflow.steps[1].runtime_type: delay is not supported by this version",
        ] {
            assert!(found.iter().any(|e| e.contains(part)), "{part} in {found:?}");
        }
    }

    #[test]
    fn human_and_internal_steps_are_refused_not_skipped() {
        for change in [
            |s: &mut Step| s.has_human_task = true,
            |s: &mut Step| s.requires_approval = true,
            |s: &mut Step| s.tool_id = Some("tool.approval.human_signoff".into()),
            |s: &mut Step| s.tool_id = Some("tool.internal.delay".into()),
            |s: &mut Step| s.assigned_to = Some("boss".into()),
        ] {
            let mut refused = step("a", None);
            change(&mut refused);
            let found = errors(vec![refused]);
            assert!(found[0].contains("not supported by this version"), "{found:?}");
        }
    }

    #[test]
    fn the_internal_runtime_runs_nothing_even_when_it_is_listed() {
        let mut core = bundle(vec![step("a", Some("runtime")), step("b", Some("agent_core"))]);
        core.agents.push(BundleAgent {
            role: Some("runtime".into()),
            address: "agent_core".into(),
            create_if_missing: true,
            ..BundleAgent::default()
        });
        let (compiled, findings) = plan(&core);
        assert_eq!(findings, Findings::default());
        assert!(compiled.steps.iter().all(|s| s.target == Target::Noop));
        core.steps[0].tool_id = Some("tool.agent.task.v1".into());
        assert!(core.check().errors[0].contains("not supported"));
    }

    #[test]
    fn agents_that_cannot_be_created_are_named_before_anything_is() {
        let mut unnameable = bundle(vec![step("a", Some("worker"))]);
        unnameable.agents[0].address = "x".into();
        assert_eq!(
            unnameable.check(),
            Findings::default(),
            "known under whatever name"
        );
        unnameable.agents[0].create_if_missing = true;
        assert!(unnameable.check().errors[0].starts_with("agents[0].address: name must leave"));
    }

    #[test]
    fn loops_are_refused() {
        let mut a = step("a", Some("worker"));
        a.on_success = Some("b".into());
        let mut b = step("b", Some("worker"));
        b.on_failure = Some("a".into());
        assert!(errors(vec![a, b])[0].contains("leads back to itself"));
        let mut alone = step("a", None);
        alone.on_success = Some("a".into());
        assert_eq!(errors(vec![alone]).len(), 1);
    }
}
