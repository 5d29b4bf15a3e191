//! From a plan to what the state machine runs: addresses resolved, questions and messages filled in.

use baton_protocol::ServiceError;
use baton_protocol::proto::internal::compiled_step::Internal;
use baton_protocol::proto::internal::{
    AgentRef, CompiledScenario, CompiledStep, Delay, Escalation, HumanTask, PendingWith, Reminders, StepGate,
    pending_with::Kind,
};

use super::super::{Caller, Service};
use super::apply::StartedAgent;
use super::kinds::{Target, agent_of};
use super::plan::{Plan, PlannedStep};
use super::{Bundle, BundleHuman, Step};

impl Service {
    pub(super) async fn compile(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        plan: &Plan,
        agents: &[StartedAgent],
    ) -> Result<CompiledScenario, ServiceError> {
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (step, planned) in bundle.steps.iter().zip(&plan.steps) {
            let (agent, display_name) = match &planned.target {
                Target::Agent(index) => {
                    let found = &agents[*index];
                    (Some(found.agent.clone()), found.display_name.clone())
                }
                Target::Address(text) => (Some(self.resolve_address(caller, text).await?), text.clone()),
                Target::Gate(_)
                | Target::Delay(_)
                | Target::Notification
                | Target::Escalation(_)
                | Target::Deadline(_)
                | Target::Reminder(_)
                | Target::Noop => (None, String::new()),
            };
            let internal = internal(bundle, step, planned);
            let approval = (agent.is_some() && step.requires_approval)
                .then(|| gate(bundle, step, planned.reminders.as_ref(), None));
            let own = planned
                .reminders
                .as_ref()
                .filter(|_| agent.is_some() && approval.is_none());
            let reminders = own.map(|given| addressed(bundle, given));
            let escalate_agent = match &reminders {
                Some(set) => self.called_in(caller, bundle, agents, &set.escalate_to).await?,
                None => None,
            };
            steps.push(CompiledStep {
                reminders,
                escalate_agent,
                step_id: step.step_id.clone(),
                tool_id: step.tool_id.clone().unwrap_or_default(),
                internal_noop: agent.is_none() && internal.is_none(),
                agent,
                display_name,
                step_deadline_seconds: planned.deadline_seconds,
                max_retries: step.max_retries,
                retry_delay_seconds: step.retry_delay_seconds,
                on_success: planned.on_success,
                on_failure: planned.on_failure,
                input: step.input.clone(),
                internal,
                approval,
            });
        }
        Ok(CompiledScenario {
            scenario_id: bundle.scenario_id.clone(),
            compile_id: self.random_uuid().to_string(),
            steps,
            entry: plan.entry,
        })
    }
}

impl Service {
    /// The agent that takes over when a step escalates: one of the bundle, or one outside.
    async fn called_in(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        agents: &[StartedAgent],
        name: &str,
    ) -> Result<Option<AgentRef>, ServiceError> {
        match agent_of(bundle, name).and_then(|index| agents.get(index)) {
            Some(found) => Ok(Some(found.agent.clone())),
            None => self.escalation_agent(caller, name).await,
        }
    }
}

fn internal(bundle: &Bundle, step: &Step, planned: &PlannedStep) -> Option<Internal> {
    match &planned.target {
        Target::Gate(human) => {
            let human = human.and_then(|index| bundle.humans.get(index));
            Some(Internal::Gate(gate(
                bundle,
                step,
                planned.reminders.as_ref(),
                human,
            )))
        }
        Target::Delay(seconds) | Target::Deadline(seconds) | Target::Reminder(seconds) => {
            Some(Internal::Delay(Delay { seconds: *seconds }))
        }
        Target::Notification => Some(Internal::Notification(step.config.notification.clone())),
        Target::Escalation(to) => Some(Internal::Escalation(Escalation {
            escalate_to: to.clone(),
        })),
        Target::Agent(_) | Target::Address(_) | Target::Noop => None,
    }
}

/// The question of a step: its own, or the one of the intent.
fn gate(
    bundle: &Bundle,
    step: &Step,
    reminders: Option<&Reminders>,
    human: Option<&BundleHuman>,
) -> StepGate {
    let given = step.human_task.as_ref().or(bundle.intent.human_task.as_ref());
    let mut task = given.cloned().unwrap_or_default();
    if task.title.is_empty() {
        task.title = HumanTask::default_title(&bundle.intent.intent_type);
    }
    let asked = human.and_then(reference);
    if task.assignees.is_empty() {
        task.assignees.extend(asked.map(ToOwned::to_owned));
    }
    let contact = human.and_then(|h| h.contact.as_deref());
    if task.notify_email.is_empty()
        && let Some(contact) = contact.filter(|c| c.contains('@'))
    {
        contact.clone_into(&mut task.notify_email);
    }
    let pending_with = asked.map(|asked| PendingWith {
        kind: Kind::Human.into(),
        r#ref: asked.to_owned(),
        name: human
            .and_then(|h| h.display_name.as_deref())
            .unwrap_or(asked)
            .to_owned(),
    });
    StepGate {
        task: Some(task),
        pending_with,
        reminders: reminders.map(|given| addressed(bundle, given)),
    }
}

/// Reminders that name whom they escalate to, not the role.
fn addressed(bundle: &Bundle, given: &Reminders) -> Reminders {
    Reminders {
        escalate_to: person(bundle, &given.escalate_to).to_owned(),
        ..given.clone()
    }
}

fn reference(human: &BundleHuman) -> Option<&str> {
    human.contact.as_deref().or(human.role.as_deref())
}

/// Who a name stands for: the person or agent of that role in the bundle, else the name itself.
pub(super) fn person<'b>(bundle: &'b Bundle, name: &'b str) -> &'b str {
    let human = bundle.humans.iter().find(|h| h.role.as_deref() == Some(name));
    let agent = bundle.agents.iter().find(|a| a.role.as_deref() == Some(name));
    human
        .and_then(reference)
        .or_else(|| agent.map(|a| a.address.as_str()))
        .unwrap_or(name)
}
