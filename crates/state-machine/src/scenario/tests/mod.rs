//! Scenarios over two groups: every kind of step, branch and end.

mod agents;
mod gates;
mod reminded;
mod waits;

use crate::testing::{Replica, actor, agent, intent_id_in, json, refusal, settle, submit};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    AnswerTask, CompiledScenario, CompiledStep, Delay, Escalation, Event, EventType, FailAttempt, HumanTask,
    IdempotencyClaim, KeyKind, Notification, Pulse, Reminders, ResolveIntent, ResumeIntent, StartScenario,
    Status, StepGate, SubmitIntent, WaitingReason, compiled_step::Internal, resume_intent,
};
use baton_protocol::{ErrorCode, IntentId, limits};
use bytes::Bytes;

fn step(name: &str, on_success: u32, on_failure: u32) -> CompiledStep {
    CompiledStep {
        step_id: format!("step-{name}"),
        tool_id: "tool.agent.task.v1".into(),
        agent: Some(agent(name)),
        display_name: format!("Agent {name}"),
        step_deadline_seconds: 120,
        retry_delay_seconds: 5,
        on_success,
        on_failure,
        ..CompiledStep::default()
    }
}

struct Cluster {
    groups: Vec<Replica>,
    parent: IntentId,
}

impl Cluster {
    fn start(steps: Vec<CompiledStep>) -> Self {
        let mut cluster = Self::start_unsettled(steps);
        settle(&mut cluster.groups);
        cluster
    }

    /// Two shard groups; the parent lives in the one that is not the first step's. No message has arrived yet.
    fn start_unsettled(steps: Vec<CompiledStep>) -> Self {
        let groups: Vec<_> = (0..3).map(|g| Replica::new(g, 2)).collect();
        let first = slot_of(steps[0].agent.as_ref().unwrap_or(&agent("none"))).number();
        let parent = intent_id_in(if first < 2048 { 4_000 } else { 1 }, 7);
        let mut cluster = Self { groups, parent };
        let command = StartScenario {
            parent: Some(SubmitIntent {
                intent_id: parent.to_bytes(),
                to_agent: Some(steps[0].agent.clone().unwrap_or_else(|| agent("agent_core"))),
                ..submit("none", 0)
            }),
            scenario: Some(CompiledScenario {
                scenario_id: "seed.demo.v1".into(),
                compile_id: "compile".into(),
                steps,
                entry: 0,
            }),
        };
        let reply = cluster.home(parent).run(Body::StartScenario(command));
        assert_eq!(refusal(&reply), None);
        cluster
    }

    fn home(&mut self, id: IntentId) -> &mut Replica {
        let group = self.groups[0].ctx.map.group_of(id.slot()).0 as usize;
        &mut self.groups[group]
    }

    /// The step intent that runs now.
    fn step(&mut self) -> IntentId {
        let parent = self.parent;
        let progress = self.home(parent).view(parent).unwrap().scenario.unwrap();
        let id = &progress.steps[progress.current as usize].step_intent_id;
        IntentId::from_slice(id).unwrap()
    }

    fn resume(&mut self, id: IntentId, name: &str, body: &str, fail: bool) -> Option<ErrorCode> {
        let command = ResumeIntent {
            actor: Some(actor(KeyKind::Agent, name)),
            intent_id: id.to_bytes(),
            kind: resume_intent::Kind::Result.into(),
            result: Some(json(body)),
            fail,
            ..ResumeIntent::default()
        };
        let reply = self.home(id).run(Body::Resume(command));
        settle(&mut self.groups);
        refusal(&reply)
    }

    fn parent_events(&mut self) -> Vec<Event> {
        let parent = self.parent;
        self.home(parent).events(parent)
    }

    fn pulse(&mut self, after_ms: u64) {
        for replica in &mut self.groups {
            replica.now_ms += after_ms;
            replica.run(Body::Pulse(Pulse {}));
        }
        settle(&mut self.groups);
    }

    fn cancel(&mut self) {
        let parent = self.parent;
        let cancel = ResolveIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: parent.to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        };
        self.home(parent).run(Body::Resolve(cancel));
    }

    fn answer(&mut self, outcome: &str) -> Option<ErrorCode> {
        let parent = self.parent;
        let answer = AnswerTask {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: parent.to_bytes(),
            generation: self.home(parent).intent(parent).unwrap().gate_generation,
            outcome: outcome.into(),
            task_result: Bytes::from(format!("{{\"outcome\":\"{outcome}\"}}")),
            ..AnswerTask::default()
        };
        let reply = self.home(parent).run(Body::AnswerTask(answer));
        settle(&mut self.groups);
        refusal(&reply)
    }

    fn waits_for(&mut self) -> WaitingReason {
        let parent = self.parent;
        self.home(parent).intent(parent).unwrap().waiting_reason()
    }

    /// What the parent ended with.
    fn result(&mut self) -> String {
        let last = self.parent_events().pop().unwrap();
        let result = last.details.unwrap().result.unwrap();
        String::from_utf8(result.data.to_vec()).unwrap()
    }

    fn parent_status(&mut self) -> Status {
        self.status(self.parent)
    }

    fn status(&mut self, id: IntentId) -> Status {
        self.home(id).intent(id).unwrap().status()
    }
}

fn internal(name: &str, on_success: u32, does: Internal) -> CompiledStep {
    CompiledStep {
        agent: None,
        step_deadline_seconds: 0,
        internal: Some(does),
        ..step(name, on_success, 0)
    }
}

fn delay(name: &str, on_success: u32, seconds: u32) -> CompiledStep {
    internal(name, on_success, Internal::Delay(Delay { seconds }))
}

fn question() -> StepGate {
    StepGate {
        task: Some(HumanTask {
            title: "Ship it?".into(),
            ..HumanTask::default()
        }),
        ..StepGate::default()
    }
}

fn gate(name: &str, on_success: u32, on_failure: u32) -> CompiledStep {
    CompiledStep {
        on_failure,
        ..internal(name, on_success, Internal::Gate(question()))
    }
}
