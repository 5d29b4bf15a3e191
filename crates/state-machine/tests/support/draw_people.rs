//! What people do, drawn from numbers: answers to human tasks, writing in inboxes.

use super::draw::Draw;
use super::{AGENTS, World};
use baton_protocol::IntentId;
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::write_thread::Write;
use baton_protocol::proto::internal::{
    AnswerTask, Decision, Delegation, DeleteMessages, HumanTask, ListNotices, ReportNotice, TaskLink,
    WriteThread, query, query_reply,
};
use baton_state_machine::testing::START_MS;
use bytes::Bytes;

impl World {
    pub(super) fn any_task(draw: &mut Draw) -> HumanTask {
        HumanTask {
            title: "Well?".into(),
            task_type: draw.below(18) as i32,
            allowed_outcomes: if draw.one_in(3) {
                vec!["approved".into()]
            } else {
                vec![]
            },
            required_comment: draw.one_in(4),
            evidence_required: draw.one_in(6),
            assignees: draw.pick(&AGENTS).map(String::from).into_iter().collect(),
            notify_email: draw
                .pick(&["", "desk@example.com"])
                .map(String::from)
                .unwrap_or_default(),
            ..HumanTask::default()
        }
    }

    /// Half of them for an intent that asks.
    pub(super) fn answer_task(&self, draw: &mut Draw) -> (usize, Body) {
        let asking: Vec<_> = self.open_gates().into_iter().map(IntentId::to_bytes).collect();
        let intent_id = match draw.pick(&asking) {
            Some(id) if !draw.one_in(3) => id,
            _ => self.any_id(draw),
        };
        let outcomes = ["approved", "rejected", "submitted", "provided", "maybe"];
        let command = AnswerTask {
            actor: Self::any_actor(draw),
            generation: if draw.one_in(5) { draw.below(3) } else { 1 },
            outcome: draw.pick(&outcomes).unwrap().into(),
            comment: if draw.one_in(2) {
                "because".into()
            } else {
                String::new()
            },
            evidence: Bytes::from_static(if draw.one_in(2) { b"[1]" } else { b"" }),
            task_result: Bytes::from_static(b"{}"),
            expected_policy_generation: draw.one_in(6).then(|| draw.below(2)),
            idempotency: Self::any_claim(draw),
            link: draw.one_in(5).then(|| TaskLink {
                recipient: "boss@example.com".into(),
                expires_at_ms: START_MS + draw.below(120) * 60_000,
            }),
            intent_id: intent_id.clone(),
        };
        (self.home(&intent_id, draw), Body::AnswerTask(command))
    }

    /// What an attempt to tell somebody came to; half of them about a notice that waits.
    pub(super) fn report_notice(&self, draw: &mut Draw) -> (usize, Body) {
        let waiting: Vec<_> = self.waiting_notices();
        let (intent_id, number, attempt) = match draw.pick(&waiting) {
            Some((id, number, attempts)) if !draw.one_in(3) => (id, number, attempts + 1),
            _ => (self.any_id(draw), draw.below(4) as u32, draw.below(3) as u32),
        };
        let command = ReportNotice {
            intent_id: intent_id.clone(),
            number,
            attempt,
            outcome: draw.below(5) as i32,
            error: "no answer".into(),
            delay_ms: draw.below(3) * 2_000,
        };
        (self.home(&intent_id, draw), Body::ReportNotice(command))
    }

    fn waiting_notices(&self) -> Vec<(Bytes, u32, u32)> {
        let q = query::Body::ListNotices(ListNotices { limit: 0 });
        let pages = self.groups.iter().map(|replica| replica.ask(q.clone()));
        let notices = pages.flat_map(|page| {
            let query_reply::Outcome::Notices(page) = page else {
                panic!("notices are refused")
            };
            page.notices
        });
        let named = notices.filter_map(|view| view.notice);
        named.map(|n| (n.intent_id, n.number, n.attempts)).collect()
    }

    pub(super) fn write_thread(&self, draw: &mut Draw) -> (usize, Body) {
        let owner = Self::any_agent(draw);
        let write = match draw.below(6) {
            0 | 1 => Some(Write::Reply("hello".into())),
            2 => Some(Write::Delegate(Delegation {
                to: draw.one_in(2).then(|| Self::any_agent(draw)),
                note: "please".into(),
            })),
            3 => Some(Write::Decide(Decision {
                approve: draw.one_in(2),
                comment: String::new(),
            })),
            4 => Some(Write::Delete(DeleteMessages {
                both: draw.one_in(2),
                limit: draw.below(3) as u32,
                ..DeleteMessages::default()
            })),
            _ => draw.one_in(2).then_some(Write::Read(true)),
        };
        let command = WriteThread {
            actor: Self::any_actor(draw),
            thread_id: self.any_id(draw),
            write,
            counterpart: draw.one_in(2).then(|| Self::any_agent(draw)),
            idempotency: Self::any_claim(draw),
            owner: Some(owner.clone()),
        };
        let id = IntentId::new(self.now_ms, slot_of(&owner), 0);
        (self.home(id.as_bytes(), draw), Body::WriteThread(command))
    }
}
