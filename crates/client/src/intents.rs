//! Reading intents, and changing their course.

use crate::client::{Call, MESSAGE_BYTES_MAX, Safety, unary};
use crate::submit::draw_key;
use crate::types::{BulkCancel, Canceled, Change, Intent, IntentFilter, Payload, Resolution};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use futures::{Stream, TryStreamExt as _};
use std::time::Duration;
use tokio::time::Instant;

/// One question to the server about an intent's end; a longer wait is several.
const WAIT_PART: Duration = Duration::from_secs(20);
/// What the network may add to it.
const WAIT_SLACK: Duration = Duration::from_secs(5);

/// What a resume does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Finishes the work with this result.
    Result(Payload),
    /// Finishes the work as failed.
    Error(Payload),
    /// Lets a waiting intent go on.
    Approve,
    /// Ends a waiting intent.
    Reject,
    /// Answers the human task that the intent waits for: a JSON object with `outcome` and what the task asks beside it.
    Answer(Payload),
    /// Lets it wait for what is named here (WAITING_FOR_TOOL): nobody is handed it before somebody resumes it.
    WaitForTool(String),
    /// Makes another agent responsible.
    HandOver(String),
}

impl Client {
    /// One intent with its payload; a linearizable read.
    ///
    /// # Errors
    /// `not_found`, and what any call gives.
    pub async fn get(&self, intent_id: &str) -> Result<Intent, Error> {
        let request = v1::GetIntentRequest {
            intent_id: intent_id.to_owned(),
            without_payload: false,
        };
        let answer = unary!(self, Safety::Repeatable, IntentServiceClient.get_intent(request))?;
        Intent::required(answer.intent)
    }

    /// Intents, newest first, page by page.
    pub fn list(&self, filter: IntentFilter) -> Pages {
        Pages {
            client: self.clone(),
            filter: filter.into_wire(),
            page_size: 0,
            token: Some(String::new()),
        }
    }

    /// Waits until the intent has ended, or as long as `wait`.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it goes on; `not_found`.
    pub async fn wait_for(&self, intent_id: &str, wait: Duration) -> Result<Intent, Error> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let part = left.min(WAIT_PART);
            let request = v1::WaitForRequest {
                intent_id: intent_id.to_owned(),
                wait_ms: u32::try_from(part.as_millis()).unwrap_or(u32::MAX).max(1),
            };
            let call = Call {
                attempt: part + WAIT_SLACK,
                total: (part + WAIT_SLACK).max(self.timeout()),
                ..self.unary_call(Safety::Repeatable)
            };
            let answer = self
                .call(call, |channel, outgoing| {
                    let request = outgoing.carry(request.clone());
                    async move {
                        IntentServiceClient::new(channel)
                            .max_decoding_message_size(MESSAGE_BYTES_MAX)
                            .wait_for(request)
                            .await
                    }
                })
                .await?;
            let intent = Intent::required(answer.intent)?;
            if intent.status.is_terminal() {
                return Ok(intent);
            }
            if Instant::now() >= until {
                return Err(Error::Timeout {
                    after: wait,
                    last: format!("the intent is {}", intent.status),
                });
            }
        }
    }

    /// Ends an intent from outside. Nothing happens before `send`.
    pub fn resolve(&self, intent_id: impl Into<String>, resolution: Resolution) -> ChangeCall {
        ChangeCall::new(self, intent_id.into(), Action::Resolve(resolution))
    }

    /// Continues a waiting intent, or finishes the work. Nothing happens before `send`.
    pub fn resume(&self, intent_id: impl Into<String>, resume: Resume) -> ChangeCall {
        ChangeCall::new(self, intent_id.into(), Action::Resume(resume))
    }

    /// Ends an intent as CANCELED. Nothing happens before `send`.
    pub fn cancel(&self, intent_id: impl Into<String>) -> ChangeCall {
        ChangeCall::new(self, intent_id.into(), Action::Cancel)
    }

    /// Cancels everything that the filter names, at most `limit` (0 = the server's default) at a time; with `dry_run`
    /// only says what that would be.
    ///
    /// # Errors
    /// What any call gives; what became of each intent is in the answer.
    pub async fn bulk_cancel(
        &self,
        filter: IntentFilter,
        reason: &str,
        limit: u32,
        dry_run: bool,
    ) -> Result<BulkCancel, Error> {
        let request = v1::BulkCancelRequest {
            filter: Some(filter.into_wire()),
            reason: reason.to_owned(),
            dry_run,
            limit,
        };
        // Repeated, it finds what is left.
        let answer = unary!(self, Safety::Repeatable, IntentServiceClient.bulk_cancel(request))?;
        let results = answer.results.into_iter().map(|result| Canceled {
            intent_id: result.intent_id,
            error: result.failure.map(Error::from_failure),
        });
        Ok(BulkCancel {
            results: results.collect(),
            more: answer.more,
        })
    }
}

/// A list in pages.
///
/// ```no_run
/// # async fn example(client: baton_client::Client) -> Result<(), baton_client::Error> {
/// use baton_client::{IntentFilter, Status};
///
/// let filter = IntentFilter { statuses: vec![Status::Failed], ..IntentFilter::default() };
/// let mut pages = client.list(filter).page_size(50);
/// while let Some(page) = pages.next().await? {
///     for intent in page {
///         println!("{} {}", intent.intent_id, intent.intent_type);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is read before next"]
pub struct Pages {
    client: Client,
    filter: v1::IntentFilter,
    page_size: u32,
    /// Absent after the last page.
    token: Option<String>,
}

impl Pages {
    /// Intents of one page; bounded by the server.
    pub fn page_size(mut self, intents: u32) -> Self {
        self.page_size = intents;
        self
    }

    /// Begins after an earlier page: see [`token`](Self::token).
    pub fn starting_at(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Where the next page begins; absent after the last one.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// What any call gives; the same page can be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<Intent>>, Error> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        let request = v1::ListIntentsRequest {
            filter: Some(self.filter.clone()),
            page_size: self.page_size,
            page_token: token.clone(),
        };
        let answer = unary!(
            &self.client,
            Safety::Repeatable,
            IntentServiceClient.list_intents(request)
        )?;
        self.token = (!answer.next_page_token.is_empty()).then_some(answer.next_page_token);
        Ok(Some(answer.intents.into_iter().map(Intent::from_wire).collect()))
    }

    /// One intent after the other, whatever the page.
    pub fn into_stream(self) -> impl Stream<Item = Result<Intent, Error>> + Send {
        futures::stream::try_unfold(self, |mut pages| async move {
            let page = pages.next().await?;
            Ok::<_, Error>(page.map(|page| (futures::stream::iter(page.into_iter().map(Ok)), pages)))
        })
        .try_flatten()
    }
}

#[derive(Debug, Clone)]
enum Action {
    Resolve(Resolution),
    Resume(Resume),
    Cancel,
}

/// A change that is about to be made.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before send"]
pub struct ChangeCall {
    client: Client,
    intent_id: String,
    action: Action,
    reason: String,
    key: Option<String>,
    generation: Option<u64>,
}

impl ChangeCall {
    fn new(client: &Client, intent_id: String, action: Action) -> Self {
        Self {
            client: client.clone(),
            intent_id,
            action,
            reason: String::new(),
            key: None,
            generation: None,
        }
    }

    /// Why; kept with the event.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The idempotency key; drawn when absent, which covers the repetitions of one call.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Refused unless the intent is at this generation. A cancel ignores it.
    pub fn expected_policy_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Makes the change.
    ///
    /// # Errors
    /// `intent_terminal` when the intent has ended, `policy_generation_mismatch`, and what any call gives.
    pub async fn send(self) -> Result<Change, Error> {
        let key = self.key.clone().unwrap_or_else(draw_key);
        match self.action.clone() {
            Action::Resolve(resolution) => self.send_resolve(resolution, key).await,
            Action::Resume(resume) => self.send_resume(resume, key).await,
            Action::Cancel => self.send_cancel(key).await,
        }
    }

    async fn send_resolve(self, resolution: Resolution, key: String) -> Result<Change, Error> {
        let (status, result, error) = match resolution {
            Resolution::Completed(result) => (v1::Status::Completed, Some(result.into_wire()), None),
            Resolution::Failed(error) => (v1::Status::Failed, None, Some(error.into_wire())),
            Resolution::Canceled => (v1::Status::Canceled, None, None),
        };
        let request = v1::ResolveRequest {
            intent_id: self.intent_id,
            status: status.into(),
            result,
            error,
            reason: self.reason,
            idempotency_key: key,
            expected_policy_generation: self.generation,
        };
        let answer = unary!(
            &self.client,
            Safety::Repeatable,
            IntentServiceClient.resolve(request)
        )?;
        Change::new(answer.intent, answer.event, answer.replayed)
    }

    async fn send_resume(self, resume: Resume, key: String) -> Result<Change, Error> {
        use v1::resume_request::Action as Wire;
        let action = match resume {
            Resume::Result(result) => Wire::Result(result.into_wire()),
            Resume::Error(error) => Wire::Error(error.into_wire()),
            Resume::Approve => Wire::Approve(true),
            Resume::Reject => Wire::Approve(false),
            Resume::Answer(answer) => Wire::TaskResult(answer.into_wire()),
            Resume::WaitForTool(tool) => Wire::WaitForTool(tool),
            Resume::HandOver(agent) => Wire::NextHandler(agent),
        };
        let request = v1::ResumeRequest {
            intent_id: self.intent_id,
            action: Some(action),
            reason: self.reason,
            idempotency_key: key,
            expected_policy_generation: self.generation,
        };
        let answer = unary!(
            &self.client,
            Safety::Repeatable,
            IntentServiceClient.resume(request)
        )?;
        Change::new(answer.intent, answer.event, answer.replayed)
    }

    async fn send_cancel(self, key: String) -> Result<Change, Error> {
        let request = v1::CancelRequest {
            intent_id: self.intent_id,
            reason: self.reason,
            idempotency_key: key,
        };
        let answer = unary!(
            &self.client,
            Safety::Repeatable,
            IntentServiceClient.cancel(request)
        )?;
        Change::new(answer.intent, answer.event, answer.replayed)
    }
}
