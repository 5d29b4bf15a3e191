//! The one task that sends the messages of a led group.

use super::{GROUP_SENDS_MAX, NotCarried, Notifier};
use crate::backoff::Backoff;
use crate::metrics;
use crate::ports::{AppliedFeed, AppliedNotice, LedGroup};
use crate::push::delay_ms;
use baton_protocol::proto::internal::report_notice::Outcome;
use baton_protocol::proto::internal::{
    ListNotices, Notice, NoticeView, Query, ReportNotice, command, query, query_reply, reply,
};
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use baton_state_machine::Effect;
use futures::FutureExt;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

/// First and longest pause before the log is told again, and before tables that cannot be read are read again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Cluster time is steered against the local clock, so a long wait is checked again in between.
const RECHECK: Duration = Duration::from_secs(5);

/// Names a notice.
type Name = (IntentId, u32);

/// Messages of one led group, for one term.
pub(crate) struct NoticeGroup {
    notifier: Arc<Notifier>,
    led: Arc<dyn LedGroup>,
    feed: Box<dyn AppliedFeed>,
    under_way: HashSet<Name>,
    /// Ended with this object: without the leadership an attempt cannot say what it came to.
    sending: JoinSet<Name>,
}

impl NoticeGroup {
    /// Before anything is read from the tables, so that no change falls in between.
    pub(crate) fn new(notifier: Arc<Notifier>, led: Arc<dyn LedGroup>) -> Self {
        Self {
            feed: led.applied(),
            notifier,
            led,
            under_way: HashSet::new(),
            sending: JoinSet::new(),
        }
    }

    /// Runs until the feed of applied entries is closed.
    pub(crate) async fn run(mut self) {
        let mut unreadable = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            let pause = match self.send_due() {
                Ok(pause) => {
                    unreadable.reset();
                    pause
                }
                Err(error) => {
                    warn!(group_id = self.led.group_id().0, %error, "cannot read whom to tell");
                    unreadable.step()
                }
            };
            if !self.wait(pause).await {
                return;
            }
        }
    }

    /// Waits until there may be something to do; `false` at the end.
    async fn wait(&mut self, pause: Duration) -> bool {
        let paused = sleep(pause);
        tokio::pin!(paused);
        loop {
            tokio::select! {
                notice = self.feed.next() => match notice {
                    AppliedNotice::Entry(entry) if !entry.effects.contains(&Effect::Notice) => {}
                    AppliedNotice::Entry(_) | AppliedNotice::Lagged => return true,
                    AppliedNotice::Closed => return false,
                },
                Some(ended) = self.sending.join_next() => {
                    if let Ok(name) = ended {
                        self.under_way.remove(&name);
                    }
                    return true;
                }
                () = &mut paused => return true,
            }
        }
    }

    /// Starts what is due, as far as there is room. Returns how long nothing else is due.
    fn send_due(&mut self) -> Result<Duration, ServiceError> {
        let now_ms = self.led.now_ms();
        for view in self.waiting()? {
            let Some((name, notice)) = named(&view) else {
                continue;
            };
            if self.under_way.contains(&name) {
                continue;
            }
            if notice.next_attempt_at_ms > now_ms {
                let pause = Duration::from_millis(notice.next_attempt_at_ms - now_ms);
                return Ok(pause.min(RECHECK));
            }
            if self.under_way.len() >= GROUP_SENDS_MAX {
                break;
            }
            self.under_way.insert(name);
            let sender = Sender {
                notifier: Arc::clone(&self.notifier),
                led: Arc::clone(&self.led),
                name,
            };
            self.sending.spawn(async move {
                sender.run(&view).await;
                name
            });
        }
        Ok(RECHECK)
    }

    fn waiting(&self) -> Result<Vec<NoticeView>, ServiceError> {
        let reply = self.led.query(&Query {
            actor: None,
            body: Some(query::Body::ListNotices(ListNotices { limit: 0 })),
        })?;
        match reply.outcome {
            Some(query_reply::Outcome::Notices(page)) => Ok(page.notices),
            _ => Err(ServiceError::new(
                ErrorCode::Internal,
                "the tables answered with something else than notices",
            )),
        }
    }
}

fn named(view: &NoticeView) -> Option<(Name, &Notice)> {
    let notice = view.notice.as_ref()?;
    Some(((IntentId::from_slice(&notice.intent_id)?, notice.number), notice))
}

/// One attempt under way.
struct Sender {
    notifier: Arc<Notifier>,
    led: Arc<dyn LedGroup>,
    name: Name,
}

impl Sender {
    /// Sends, and returns when the log knows.
    async fn run(&self, view: &NoticeView) {
        let notice = view.notice.clone().unwrap_or_default();
        let sent = AssertUnwindSafe(self.send(view, &notice)).catch_unwind().await;
        let Some(sent) = sent.unwrap_or_else(|_| {
            warn!(intent_id = %self.name.0, "writing or sending a message panicked");
            Some(Err(NotCarried::for_now("the message could not be written")))
        }) else {
            return;
        };
        let attempt = notice.attempts.saturating_add(1);
        let (outcome, error) = match sent {
            Ok(()) => (Outcome::Sent, String::new()),
            Err(not) if not.for_good => (Outcome::GivenUp, not.reason),
            Err(not) => (Outcome::Failed, not.reason),
        };
        metrics::noticed(outcome);
        debug!(intent_id = %self.name.0, number = self.name.1, ?outcome, error, "a message was tried");
        let schedule_ms = &self.notifier.settings.retry_schedule_ms;
        self.report(ReportNotice {
            intent_id: self.name.0.to_bytes(),
            number: self.name.1,
            attempt,
            outcome: outcome.into(),
            error,
            delay_ms: delay_ms(schedule_ms, self.name.0, attempt, None),
        })
        .await;
    }

    /// `None` when this node does not lead any more.
    async fn send(&self, view: &NoticeView, notice: &Notice) -> Option<Result<(), NotCarried>> {
        let _slot = self.notifier.slots.acquire().await.ok()?;
        let now_ms = self.led.now_ms();
        if now_ms >= notice.expires_at_ms {
            return Some(Err(NotCarried::for_good("it expired before it could be sent")));
        }
        let letter = match self.notifier.letters.write(view) {
            Ok(letter) => letter,
            Err(error) => return Some(Err(NotCarried::for_now(error.message))),
        };
        if !self.led.is_leader() {
            return None;
        }
        Some(self.notifier.carrier.carry(&letter, now_ms).await)
    }

    /// Tells the log, however long that takes, as long as this node leads.
    async fn report(&self, report: ReportNotice) {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        while self.led.is_leader() {
            let body = command::Body::ReportNotice(report.clone());
            match self.led.propose(body).await.map(|reply| reply.outcome) {
                Ok(Some(reply::Outcome::Rejected(rejection))) => {
                    debug!(rejection.message, "nobody waits for this message any more");
                    return;
                }
                Ok(_) => return,
                Err(error) => debug!(%error, "the log cannot be told what a message came to"),
            }
            sleep(backoff.step()).await;
        }
    }
}
