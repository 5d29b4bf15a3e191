//! Commands of every kind, valid and not, drawn from numbers.

use super::{AGENTS, SHARD_GROUPS, World, header};
use baton_protocol::address::{AGENT_CORE, slot_of};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, Actor, AgentRef, AttemptFence, DeliverMessage, EnvelopeLimits, FailAttempt,
    FinishAttempt, FinishIdempotency, IdempotencyClaim, KeyKind, Member, OutboxMessage, Pulse,
    RedeliverIntent, Reminders, Reply, ReserveIdempotency, ResolveIntent, ResumeIntent, StartAttempt,
    SubmitIntent, UpdateControls, UpdatePolicy, outbox_message, reply, resume_intent,
};
use baton_protocol::{IntentId, Route};
use baton_state_machine::testing::{actor, agent, json};
use bytes::Bytes;

/// Details drawn from one number.
#[derive(Debug, Clone)]
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1) as u64) as usize;
        from.get(index).cloned()
    }
}

impl World {
    pub(super) fn command(&self, kind: u8, draw: &mut Draw) -> (usize, Body) {
        let shard = 1 + draw.below(u64::from(SHARD_GROUPS)) as usize;
        match kind % 29 {
            0..=3 => {
                let submit = self.submit(draw);
                (self.home(&submit.intent_id, draw), Body::Submit(submit))
            }
            4 | 5 => self.start_scenario(draw),
            6 => self.resolve(draw),
            7..=9 => self.resume(draw),
            10 => self.update_controls(draw),
            11 => self.update_policy(draw),
            12 => self.fail_attempt(draw),
            13 => self.finish_attempt(draw),
            14 => self.redeliver(draw),
            15 | 16 => (shard, Body::Pulse(Pulse {})),
            17 => self.reserve(draw, shard),
            18..=21 => self.message(draw, shard),
            22 => self.acknowledge(draw, shard),
            23 | 24 => self.answer_task(draw),
            25 => self.write_thread(draw),
            26 => self.start_attempt(draw),
            27 => self.report_notice(draw),
            _ => self.meta(draw),
        }
    }

    pub(super) fn home(&self, intent_id: &[u8], draw: &mut Draw) -> usize {
        match IntentId::from_slice(intent_id) {
            Some(id) if !draw.one_in(30) => Route::Slot(id.slot()).group(self.groups[0].ctx.map).0 as usize,
            _ => draw.below(u64::from(SHARD_GROUPS) + 1) as usize,
        }
    }

    pub(super) fn any_id(&self, draw: &mut Draw) -> Bytes {
        if draw.one_in(12) {
            return Bytes::from_static(b"garbage");
        }
        let ids: Vec<_> = self.ids.iter().copied().collect();
        let open: Vec<_> = ids
            .iter()
            .copied()
            .filter(|i| !self.ended.contains_key(i))
            .collect();
        let from = if draw.one_in(4) { ids } else { open };
        draw.pick(&from).map_or_else(Bytes::new, IntentId::to_bytes)
    }

    pub(super) fn any_agent(draw: &mut Draw) -> AgentRef {
        match draw.below(12) {
            0 => agent(AGENT_CORE),
            _ => agent(draw.pick(&AGENTS).unwrap()),
        }
    }

    pub(super) fn any_actor(draw: &mut Draw) -> Option<Actor> {
        let name = draw.pick(&AGENTS).unwrap();
        let mut caller = match draw.below(8) {
            0 => return None,
            1 => actor(KeyKind::Operator, "root"),
            2 | 3 => actor(KeyKind::Agent, name),
            4 => actor(KeyKind::Unspecified, name),
            _ => actor(KeyKind::Workspace, "sender"),
        };
        if draw.one_in(9) {
            caller.workspace_id = "w2".into();
        }
        if draw.one_in(3) {
            caller.acting_for = Some(Self::any_agent(draw));
        }
        Some(caller)
    }

    pub(super) fn any_claim(draw: &mut Draw) -> Option<IdempotencyClaim> {
        draw.one_in(3).then(|| IdempotencyClaim {
            key_hash: Bytes::copy_from_slice(&[draw.below(6) as u8; 8]),
            request_hash: Bytes::copy_from_slice(&[draw.below(2) as u8]),
            in_intent_slot: draw.one_in(2),
        })
    }

    pub(super) fn submit(&self, draw: &mut Draw) -> SubmitIntent {
        let to = Self::any_agent(draw);
        let id = IntentId::new(self.now_ms, slot_of(&to), draw.below(500));
        SubmitIntent {
            actor: Self::any_actor(draw),
            intent_id: if draw.one_in(30) {
                self.any_id(draw)
            } else {
                id.to_bytes()
            },
            intent_type: "order.pay.v1".into(),
            to_agent: (!draw.one_in(40)).then_some(to),
            reply_to: draw.one_in(3).then(|| Self::any_agent(draw)),
            payload: draw.one_in(2).then(|| json("{\"amount\":1}")),
            deadline_at_ms: match draw.below(4) {
                0 => self.now_ms + draw.below(60_000),
                1 => 1,
                _ => 0,
            },
            max_delivery_attempts: draw.below(4) as u32,
            reminders: draw.one_in(4).then(|| Self::any_reminders(draw)),
            escalate_agent: draw.one_in(3).then(|| Self::any_agent(draw)),
            human_task: draw.one_in(4).then(|| Self::any_task(draw)),
            idempotency: Self::any_claim(draw),
            reserved_at_ms: if draw.one_in(10) { self.now_ms / 2 } else { 0 },
            ..SubmitIntent::default()
        }
    }

    pub(super) fn any_reminders(draw: &mut Draw) -> Reminders {
        Reminders {
            remind_after_seconds: draw.below(4) as u32 * 10,
            remind_interval_seconds: draw.below(3) as u32 * 10,
            max_reminders: draw.below(4) as u32,
            escalate_to: draw.pick(&["", "w0", "somebody"]).unwrap().into(),
        }
    }

    fn resolve(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = ResolveIntent {
            actor: Self::any_actor(draw),
            status: draw.below(12) as i32,
            result: Some(json("{\"done\":true}")),
            idempotency: Self::any_claim(draw),
            reason: "because".into(),
            error: None,
            intent_id: intent_id.clone(),
            expected_policy_generation: draw.one_in(4).then(|| draw.below(2)),
        };
        (self.home(&intent_id, draw), Body::Resolve(command))
    }

    fn resume(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = ResumeIntent {
            actor: Self::any_actor(draw),
            kind: match draw.below(6) {
                0 => resume_intent::Kind::Control.into(),
                1 => resume_intent::Kind::ControlOrResult.into(),
                2 => draw.pick(&[0, 1, 2, 3, 4, 90]).unwrap(),
                _ => resume_intent::Kind::Result.into(),
            },
            result: Some(json("{\"ok\":1}")),
            fail: draw.one_in(3),
            approve: !draw.one_in(4),
            next_handler: draw.one_in(2).then(|| Self::any_agent(draw)),
            expected_policy_generation: draw.one_in(4).then(|| draw.below(2)),
            idempotency: Self::any_claim(draw),
            intent_id: intent_id.clone(),
            ..ResumeIntent::default()
        };
        (self.home(&intent_id, draw), Body::Resume(command))
    }

    fn members(draw: &mut Draw) -> Vec<Member> {
        (0..draw.below(3))
            .map(|_| Member {
                key: match draw.pick(&AGENTS) {
                    Some(name) if draw.one_in(2) => format!("delegate:{}", agent(name).address),
                    _ => "ttl_seconds".into(),
                },
                value: Bytes::from_static(b"{\"allow\":[\"resume\",\"resolve\"]}"),
            })
            .collect()
    }

    fn update_controls(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = UpdateControls {
            actor: Self::any_actor(draw),
            patch: Self::members(draw),
            idempotency: Self::any_claim(draw),
            intent_id: intent_id.clone(),
            ..UpdateControls::default()
        };
        (self.home(&intent_id, draw), Body::Controls(command))
    }

    fn update_policy(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = UpdatePolicy {
            actor: Self::any_actor(draw),
            grants: Self::members(draw),
            envelope: Self::members(draw),
            expected_policy_generation: draw.one_in(3).then(|| draw.below(2)),
            limits: (!draw.one_in(3)).then(|| self.any_limits(draw)),
            intent_id: intent_id.clone(),
            ..UpdatePolicy::default()
        };
        (self.home(&intent_id, draw), Body::Policy(command))
    }

    /// Of every size, 0 and more than is allowed among them.
    fn any_limits(&self, draw: &mut Draw) -> EnvelopeLimits {
        let mut some = |most: u32| {
            let value = if draw.one_in(12) {
                u32::MAX
            } else {
                draw.below(most.into()) as u32
            };
            draw.one_in(2).then_some(value)
        };
        EnvelopeLimits {
            max_retry_count: some(5),
            retry_backoff_seconds: some(20),
            execution_timeout_seconds: some(30),
            ttl_seconds: some(90),
            expires_at_ms: draw.one_in(3).then(|| draw.below(self.now_ms + 60_000)),
        }
    }

    fn start_attempt(&self, draw: &mut Draw) -> (usize, Body) {
        let (group, intent_id, cursor) = self.attempt(draw);
        (group, Body::StartAttempt(StartAttempt { intent_id, cursor }))
    }

    /// An intent with its cursor, or a wrong one.
    pub(super) fn attempt(&self, draw: &mut Draw) -> (usize, Bytes, u64) {
        let intent_id = self.any_id(draw);
        let group = self.home(&intent_id, draw);
        let cursor = IntentId::from_slice(&intent_id)
            .and_then(|id| header(&self.groups[group], id))
            .map_or(0, |intent| intent.mailbox_cursor);
        (group, intent_id, if draw.one_in(6) { cursor / 2 } else { cursor })
    }

    fn fail_attempt(&self, draw: &mut Draw) -> (usize, Body) {
        if draw.one_in(2) {
            return self.push(draw);
        }
        let (group, intent_id, cursor) = self.attempt(draw);
        let push = None;
        (
            group,
            Body::FailAttempt(FailAttempt {
                intent_id,
                cursor,
                push,
            }),
        )
    }

    fn redeliver(&self, draw: &mut Draw) -> (usize, Body) {
        let (group, intent_id, cursor) = self.attempt(draw);
        (group, Body::Redeliver(RedeliverIntent { intent_id, cursor }))
    }

    fn finish_attempt(&self, draw: &mut Draw) -> (usize, Body) {
        let (group, intent_id, cursor) = self.attempt(draw);
        let command = FinishAttempt {
            actor: Self::any_actor(draw),
            intent_id,
            cursor,
            fence: (!draw.one_in(8)).then(|| AttemptFence {
                term: draw.below(3),
                counter: draw.below(3),
            }),
            status: draw.below(11) as i32,
            body: draw.one_in(2).then(|| json("{\"ok\":1}")),
            reason: String::new(),
            handler_generation: u64::from(draw.one_in(8)),
            agent_key: String::new(),
        };
        (group, Body::FinishAttempt(command))
    }

    fn reserve(&self, draw: &mut Draw, shard: usize) -> (usize, Body) {
        let claim = Self::any_claim(draw);
        if draw.one_in(2) {
            let command = ReserveIdempotency {
                claim,
                intent_id: IntentId::new(self.now_ms, slot_of(&agent("w0")), draw.next()).to_bytes(),
            };
            return (shard, Body::Reserve(command));
        }
        let kept = self.log.last().and_then(|l| l.applied.replies.first().cloned());
        let command = FinishIdempotency {
            key_hash: claim.unwrap_or_default().key_hash,
            reply: draw.one_in(2).then_some(kept).flatten(),
        };
        (shard, Body::Finish(command))
    }

    fn message(&self, draw: &mut Draw, shard: usize) -> (usize, Body) {
        let waiting = self.waiting();
        let (target, message) = match draw.pick(&waiting) {
            Some((_, target, message)) if !draw.one_in(10) => (target, message),
            _ => {
                let garbage = OutboxMessage {
                    source_group: 1,
                    target_group: shard as u32,
                    seq: draw.below(3) + 1_000_000,
                    body: draw.one_in(2).then(|| {
                        outbox_message::Body::StartStep(baton_protocol::proto::internal::StartStep::default())
                    }),
                };
                (shard, garbage)
            }
        };
        (
            target,
            Body::Deliver(DeliverMessage {
                message: Some(message),
            }),
        )
    }

    fn acknowledge(&self, draw: &mut Draw, shard: usize) -> (usize, Body) {
        // Only what has arrived is ever acknowledged.
        let arrived = self.log.iter().rev().find_map(|entry| {
            entry
                .batch
                .commands
                .iter()
                .zip(&entry.applied.replies)
                .find_map(|(c, r)| {
                    let Some(Body::Deliver(deliver)) = &c.body else {
                        return None;
                    };
                    let message = deliver.message.as_ref()?;
                    matches!(
                        r,
                        Reply {
                            outcome: Some(reply::Outcome::Done(_)),
                            ..
                        }
                    )
                    .then_some((message.source_group, message.target_group, message.seq))
                })
        });
        match arrived {
            Some((source, target_group, seq)) if !draw.one_in(5) => (
                source as usize,
                Body::Acknowledge(AcknowledgeOutbox { target_group, seq }),
            ),
            _ => (shard, Body::Acknowledge(AcknowledgeOutbox::default())),
        }
    }
}
