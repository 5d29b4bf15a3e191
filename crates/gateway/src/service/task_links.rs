//! Human tasks behind links: what a link opens, and the answer through it.

use baton_protocol::proto::internal::{
    AnswerTask, Gate, GetIntent, Intent, TaskAnswer, TaskLink as LinkClaims, command, query, query_reply,
};
use baton_protocol::{ErrorCode, Route, ServiceError};

use super::intents::Committed;
use super::tasks::checked;
use super::{Failure, Service, unexpected};
use crate::forms::HandedIn;
use crate::links::TaskLink;

/// The task that a link leads to.
#[derive(Debug, Clone)]
pub(crate) struct LinkedTask {
    pub intent: Intent,
    /// The intent's latest question. It is the link's own when the link is [`LinkState::Open`] or answered.
    pub gate: Gate,
    pub state: LinkState,
}

/// What a link can still do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LinkState {
    /// Answer.
    Open,
    /// Nothing: its time is over, whatever became of the task.
    Expired,
    /// Nothing: there is an answer.
    Answered(TaskAnswer),
    /// Nothing: the question was closed without an answer, or is not the latest any more.
    Closed,
}

impl Service {
    /// What a token stands for; `None` unless this cluster signed it.
    ///
    /// # Errors
    /// `Unavailable` when the secret cannot be read now.
    pub(crate) async fn read_link(&self, token: &str) -> Result<Option<TaskLink>, ServiceError> {
        match self.token_secret().await {
            Ok(secret) => Ok(TaskLink::read(token, &secret)),
            // A cluster without a secret signs nothing.
            Err(error) if error.code == ErrorCode::NotImplemented => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The task behind a link as of now; `None` when its intent is gone.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when no leader answers.
    #[tracing::instrument(name = "task.open", skip_all, fields(intent_id = %link.intent_id))]
    pub(crate) async fn linked_task(&self, link: &TaskLink) -> Result<Option<LinkedTask>, ServiceError> {
        let query = query::Body::GetIntent(GetIntent {
            intent_id: link.intent_id.to_bytes(),
            with_payload: false,
        });
        let view = match self.read(Route::Slot(link.intent_id.slot()), None, query).await {
            Ok(query_reply::Outcome::Intent(view)) => view,
            Ok(_) => return Err(unexpected("something else than an intent")),
            Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (Some(intent), Some(gate)) = (view.intent, view.gate) else {
            return Ok(None);
        };
        let now_ms = self.ports.environment.now_ms();
        let state = state(link, &intent, &gate, now_ms);
        Ok(Some(LinkedTask { intent, gate, state }))
    }

    /// Answers the task that was just read through its link.
    ///
    /// # Errors
    /// `TaskResultInvalid` when the answer does not fit, `Conflict` or `IntentTerminal` when it came too late.
    pub(crate) async fn answer_linked(
        &self,
        link: &TaskLink,
        gate: &Gate,
        handed_in: HandedIn,
    ) -> Result<Committed, Failure> {
        let checked = checked(gate, handed_in).await?;
        let body = command::Body::AnswerTask(AnswerTask {
            intent_id: link.intent_id.to_bytes(),
            generation: link.generation,
            outcome: checked.outcome,
            comment: checked.comment,
            evidence: checked.evidence,
            task_result: checked.task_result,
            link: Some(LinkClaims {
                recipient: link.recipient.clone(),
                expires_at_ms: link.expires_at_ms,
            }),
            ..AnswerTask::default()
        });
        self.transition(link.intent_id, body).await
    }
}

fn state(link: &TaskLink, intent: &Intent, gate: &Gate, now_ms: u64) -> LinkState {
    // First of all: a link that is over tells nothing any more.
    if link.expires_at_ms <= now_ms {
        return LinkState::Expired;
    }
    if gate.generation != link.generation {
        return LinkState::Closed;
    }
    match &gate.answer {
        Some(answer) => LinkState::Answered(answer.clone()),
        None if !intent.gate_open => LinkState::Closed,
        None => LinkState::Open,
    }
}
