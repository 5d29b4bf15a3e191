//! `StartScenario`: creates the parent intent and starts the entry step.

use crate::commands::submit;
use crate::idempotency;
use crate::intents;
use crate::lifecycle;
use crate::mailbox::require_agent;
use crate::scenario;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject, reply};
use baton_protocol::proto::internal::{
    CompiledScenario, Intent, Scenario, ScenarioStarted, StartScenario, StepState, reply as outcome,
};
use baton_protocol::{ErrorCode, limits};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &StartScenario) -> Outcome {
    let parent = command
        .parent
        .as_ref()
        .ok_or_else(|| invalid("a scenario needs a parent intent"))?;
    let compiled = command
        .scenario
        .as_ref()
        .ok_or_else(|| invalid("a scenario needs its compiled steps"))?;
    let id = submit::intent_id(tx, parent)?;
    require_agent(parent.to_agent.as_ref(), "to_agent")?;
    validate(compiled)?;
    let claim = parent.idempotency.as_ref();
    idempotency::once(
        tx,
        submit::claim_slot(parent, id),
        claim,
        &parent.intent_id,
        |tx| {
            if let Some(existing) = intents::intent(&*tx.tables, id)? {
                return started_before(existing, &submit::new_intent(parent.clone()), compiled);
            }
            submit::require_fresh_reservation(tx, parent)?;
            let intent = Intent {
                scenario_parent: true,
                scenario_id: compiled.scenario_id.clone(),
                compile_id: compiled.compile_id.clone(),
                ..submit::new_intent(parent.clone())
            };
            let mut intent = lifecycle::create(tx, intent, parent.payload.as_ref())?;
            let mut progress = Scenario {
                steps: vec![StepState::default(); compiled.steps.len()],
                current: compiled.entry,
                last_succeeded: 0,
                compiled: Some(compiled.clone()),
            };
            scenario::run_from(tx, &mut intent, &mut progress, compiled.entry)?;
            Ok(started(intent))
        },
    )
}

fn started(intent: Intent) -> baton_protocol::proto::internal::Reply {
    reply(outcome::Outcome::ScenarioStarted(ScenarioStarted {
        compile_id: intent.compile_id.clone(),
        intent: Some(intent),
    }))
}

fn started_before(existing: Intent, new: &Intent, compiled: &CompiledScenario) -> Outcome {
    let same = existing.scenario_parent
        && existing.workspace_id == new.workspace_id
        && existing.submitted_by == new.submitted_by
        && existing.scenario_id == compiled.scenario_id;
    if same {
        Ok(idempotency::replayed(&started(existing)))
    } else {
        Err(reject(
            ErrorCode::Conflict,
            "intent id exists already; mint a new one",
        ))
    }
}

fn validate(compiled: &CompiledScenario) -> Result<(), Stop> {
    let count = compiled.steps.len();
    if count == 0 || count > limits::BUNDLE_STEPS_MAX {
        return Err(invalid(format!(
            "a workflow must have 1 to {} steps",
            limits::BUNDLE_STEPS_MAX
        )));
    }
    if compiled.entry as usize >= count {
        return Err(invalid("entry step does not exist"));
    }
    for (index, step) in compiled.steps.iter().enumerate() {
        if step.on_success as usize > count || step.on_failure as usize > count {
            return Err(invalid(format!(
                "step '{}' leads to a step that does not exist",
                step.step_id
            )));
        }
        if !step.internal_noop {
            require_agent(step.agent.as_ref(), &format!("agent of step '{}'", step.step_id))?;
        }
        if compiled.steps[..index].iter().any(|s| s.step_id == step.step_id) {
            return Err(invalid(format!("step id '{}' is used twice", step.step_id)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id_in, json, refusal, settle, submit, transition};
    use baton_protocol::address::slot_of;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        CompiledScenario, CompiledStep, Event, EventType, FailAttempt, IdempotencyClaim, KeyKind, Pulse,
        ResolveIntent, ResumeIntent, StartScenario, Status, SubmitIntent, resume_intent,
    };
    use baton_protocol::{ErrorCode, IntentId};
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
        /// Two shard groups; the parent lives in the one that is not the first step's.
        fn start(steps: Vec<CompiledStep>) -> Self {
            let groups: Vec<_> = (0..3).map(|g| Replica::new(g, 2)).collect();
            let first = slot_of(steps[0].agent.as_ref().unwrap_or(&agent("none"))).number();
            let parent = intent_id_in(if first < 2048 { 4_000 } else { 1 }, 7);
            let mut cluster = Self { groups, parent };
            let command = StartScenario {
                parent: Some(SubmitIntent {
                    intent_id: parent.to_bytes(),
                    to_agent: steps[0].agent.clone(),
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
            settle(&mut cluster.groups);
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

        fn status(&mut self, id: IntentId) -> Status {
            self.home(id).intent(id).unwrap().status()
        }
    }

    #[test]
    fn steps_run_in_order_and_their_results_are_spliced() {
        let mut noop = step("noop", 0, 0);
        noop.internal_noop = true;
        let mut cluster = Cluster::start(vec![step("one", 2, 0), step("two", 3, 0), noop]);
        let parent = cluster.parent;
        let waiting = cluster.parent_events().pop().unwrap();
        assert_eq!(waiting.r#type(), EventType::Waiting);
        assert_eq!(waiting.pending_with.unwrap().name, "Agent one");
        let first = cluster.step();
        let payload = cluster.home(first).view(first).unwrap().payload.unwrap();
        assert_eq!(
            String::from_utf8(payload.data.to_vec()).unwrap(),
            format!(
                "{{\"parent_payload\":{{\"amount\":1}},\"parent_intent_id\":\"{parent}\",\
                 \"step_id\":\"step-one\",\"tool_id\":\"tool.agent.task.v1\",\"input\":{{}},\
                 \"previous_results\":{{}}}}"
            )
        );
        assert_eq!(cluster.resume(first, "one", "{\"a\":1}", false), None);
        let second = cluster.step();
        let payload = cluster.home(second).view(second).unwrap().payload.unwrap();
        let text = String::from_utf8(payload.data.to_vec()).unwrap();
        assert!(
            text.ends_with("\"previous_results\":{\"step-one\":{\"a\":1}}}"),
            "{text}"
        );
        // Through the parent's id this time, as users do who know no other.
        assert_eq!(
            cluster.resume(parent, "one", "{}", false),
            Some(ErrorCode::PolicyDenied)
        );
        assert_eq!(cluster.resume(parent, "two", "{\"b\":2}", false), None);
        let last = cluster.parent_events().pop().unwrap();
        let result = last.details.unwrap().result.unwrap();
        assert_eq!(
            String::from_utf8(result.data.to_vec()).unwrap(),
            "{\"steps\":{\"step-one\":{\"a\":1},\"step-two\":{\"b\":2},\"step-noop\":{}},\
             \"result\":{\"b\":2},\"b\":2}"
        );
        assert_eq!(cluster.status(parent), Status::Completed);
        assert!(
            cluster.status(second).is_terminal(),
            "no step outlives its scenario"
        );
    }

    #[test]
    fn a_failed_step_is_retried_then_takes_the_failure_branch() {
        let mut first = step("one", 0, 2);
        first.max_retries = 1;
        let mut cluster = Cluster::start(vec![first, step("two", 0, 0)]);
        let parent = cluster.parent;
        let run0 = cluster.step();
        cluster.resume(run0, "one", "{}", true);
        assert_eq!(cluster.step(), run0, "the retry waits for its delay");
        cluster.pulse(5_000);
        let run1 = cluster.step();
        assert_ne!(run1, run0);
        cluster.resume(run1, "one", "{}", true);
        let second = cluster.step();
        assert_eq!(cluster.resume(second, "two", "{\"ok\":1}", false), None);
        assert_eq!(cluster.status(parent), Status::Completed);
    }

    #[test]
    fn a_step_nobody_picks_up_fails_the_parent_with_its_reason() {
        let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
        let id = cluster.step();
        cluster.pulse(120_000);
        assert_eq!(cluster.status(id), Status::TimedOut);
        let events = cluster.parent_events();
        let [.., delivery, failed] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(delivery.r#type(), EventType::DeliveryFailed);
        let details = failed.details.clone().unwrap();
        assert_eq!(failed.status(), Status::Failed);
        assert_eq!(
            (details.step_id.as_str(), details.reason.as_str()),
            ("step-one", "step_timeout")
        );
    }

    #[test]
    fn attempts_that_run_out_fail_the_parent() {
        let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
        let id = cluster.step();
        for _ in 0..3 {
            let cursor = cluster.home(id).intent(id).unwrap().mailbox_cursor;
            let command = FailAttempt {
                intent_id: id.to_bytes(),
                cursor,
            };
            cluster.home(id).run(Body::FailAttempt(command));
        }
        settle(&mut cluster.groups);
        let last = cluster.parent_events().pop().unwrap();
        assert_eq!(last.details.unwrap().reason, "delivery_failed");
    }

    #[test]
    fn canceling_the_parent_cancels_the_running_step() {
        let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
        let (parent, id) = (cluster.parent, cluster.step());
        let cancel = ResolveIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: parent.to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        };
        let reply = cluster.home(parent).run(Body::Resolve(cancel));
        assert!(transition(reply).unwrap().applied);
        settle(&mut cluster.groups);
        assert_eq!(cluster.status(id), Status::Canceled);
        assert_eq!(cluster.status(parent), Status::Canceled);
        assert_eq!(
            cluster.resume(id, "one", "{}", false),
            Some(ErrorCode::IntentTerminal)
        );
    }

    #[test]
    fn steps_that_finish_at_once_in_a_circle_end_the_scenario() {
        let mut noop = step("noop", 1, 0);
        noop.internal_noop = true;
        let mut cluster = Cluster::start(vec![noop]);
        let last = cluster.parent_events().pop().unwrap();
        assert_eq!(last.status(), Status::Failed);
        assert_eq!(last.details.unwrap().reason, "workflow_loop");
    }

    #[test]
    fn the_same_key_starts_one_scenario() {
        let mut replica = Replica::new(1, 1);
        let start = |n| {
            Body::StartScenario(StartScenario {
                parent: Some(SubmitIntent {
                    intent_id: intent_id_in(5, n).to_bytes(),
                    idempotency: Some(IdempotencyClaim {
                        key_hash: Bytes::from_static(b"key"),
                        request_hash: Bytes::from_static(b"body"),
                        in_intent_slot: false,
                    }),
                    ..submit("one", 0)
                }),
                scenario: Some(CompiledScenario {
                    steps: vec![step("one", 0, 0)],
                    ..CompiledScenario::default()
                }),
            })
        };
        let first = replica.run(start(1));
        let second = replica.run(start(2));
        assert!(second.replayed);
        assert_eq!(second.outcome, first.outcome);
    }
}
