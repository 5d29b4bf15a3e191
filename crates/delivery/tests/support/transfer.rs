//! Handovers between groups, and tables that are ahead of what is heard of them.

use super::{Group, sender};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, AgentRef, DeliverMessage, ResumeIntent, command, reply, resume_intent,
};

impl Group {
    /// From now on the tables are ahead of what followers hear.
    pub(crate) fn mute(&self) {
        self.muted.lock().unwrap().get_or_insert_default();
    }

    /// Followers hear what they missed.
    pub(crate) fn unmute(&self) {
        for applied in self.muted.lock().unwrap().take().unwrap() {
            let _ = self.announce.lock().unwrap().send(applied);
        }
    }

    /// Hands the intent to another agent.
    pub(crate) fn hand_to(&self, id: IntentId, next: &AgentRef) {
        let reply = self.commit(command::Body::Resume(ResumeIntent {
            actor: Some(sender()),
            intent_id: id.to_bytes(),
            kind: resume_intent::Kind::Control.into(),
            approve: true,
            next_handler: Some(next.clone()),
            ..ResumeIntent::default()
        }));
        assert!(
            matches!(reply.outcome, Some(reply::Outcome::Transitioned(_))),
            "{reply:?}"
        );
    }

    /// Brings what waits for `other` there.
    pub(crate) fn pump_to(&self, other: &Self) {
        let waiting = baton_state_machine::outbox_head(&*self.tables.lock().unwrap(), usize::MAX).unwrap();
        for (target, messages) in waiting {
            assert_eq!(target, other.id);
            for message in messages {
                let acknowledge = AcknowledgeOutbox {
                    target_group: target.0,
                    seq: message.seq,
                };
                other.commit(command::Body::Deliver(DeliverMessage {
                    message: Some(message),
                }));
                self.commit(command::Body::Acknowledge(acknowledge));
            }
        }
    }
}
