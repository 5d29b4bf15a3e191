//! Scenarios of every shape, drawn from numbers.

use super::World;
use super::draw::Draw;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    CompiledScenario, CompiledStep, Delay, Escalation, Notification, Reminders, StartScenario, StepGate,
    compiled_step::Internal,
};
use bytes::Bytes;

impl World {
    pub(super) fn start_scenario(&self, draw: &mut Draw) -> (usize, Body) {
        let count = 1 + draw.below(4) as u32;
        let link = |draw: &mut Draw| match draw.below(8) {
            0 => draw.below(u64::from(count) + 2) as u32,
            1..=4 => 0,
            _ => draw.below(u64::from(count)) as u32 + 1,
        };
        let steps = (0..count)
            .map(|n| CompiledStep {
                step_id: format!("step{n}"),
                agent: Some(Self::any_agent(draw)),
                step_deadline_seconds: draw.below(3) as u32 * 20,
                max_retries: draw.below(3) as u32,
                retry_delay_seconds: draw.below(40) as u32,
                on_success: if draw.one_in(3) {
                    link(draw)
                } else {
                    (n + 2) % (count + 1)
                },
                on_failure: link(draw),
                internal_noop: draw.one_in(4),
                internal: Self::any_internal(draw),
                approval: draw.one_in(6).then(|| Self::any_gate(draw)),
                input: Bytes::from_static(b"{\"k\":1}"),
                reminders: draw.one_in(4).then(|| Self::any_reminders(draw)),
                escalate_agent: draw.one_in(3).then(|| Self::any_agent(draw)),
                ..CompiledStep::default()
            })
            .collect();
        let parent = self.submit(draw);
        let command = StartScenario {
            scenario: Some(CompiledScenario {
                scenario_id: "s.v1".into(),
                compile_id: "c".into(),
                steps,
                entry: draw.below(u64::from(count) + 1) as u32 % count,
            }),
            parent: Some(parent.clone()),
        };
        (self.home(&parent.intent_id, draw), Body::StartScenario(command))
    }

    fn any_internal(draw: &mut Draw) -> Option<Internal> {
        match draw.below(8) {
            0 | 1 => Some(Internal::Delay(Delay {
                seconds: draw.below(60) as u32,
            })),
            2 => Some(Internal::Notification(Notification {
                body: "about {{intent_id}}".into(),
                ..Notification::default()
            })),
            3 => Some(Internal::Escalation(Escalation {
                escalate_to: "chief".into(),
            })),
            4 => Some(Internal::Gate(Self::any_gate(draw))),
            _ => None,
        }
    }

    fn any_gate(draw: &mut Draw) -> StepGate {
        StepGate {
            task: draw.one_in(2).then(|| Self::any_task(draw)),
            pending_with: None,
            reminders: draw.one_in(2).then(|| Reminders {
                remind_after_seconds: draw.below(30) as u32,
                max_reminders: draw.below(3) as u32,
                escalate_to: if draw.one_in(2) {
                    "chief".into()
                } else {
                    String::new()
                },
                ..Reminders::default()
            }),
        }
    }
}
