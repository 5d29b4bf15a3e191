//! Items that a worker holds: running, or finished and not yet acknowledged by the server.

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::work_report::Report;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a receipt means for the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing new.
    No,
    /// The last report took effect.
    Done,
    /// The item is not ours any more, for this reason.
    Lost(String),
    /// The last report is to be sent again.
    Repeat(Duration),
}

#[derive(Debug)]
enum State {
    Running,
    /// Not ours any more; the handler still runs.
    Lost,
    /// To be told to the server until it says that it knows.
    Finished(Report),
}

/// One item.
#[derive(Debug)]
struct Held {
    fence: v1::Fence,
    state: State,
    lost: CancellationToken,
    /// Receipts to come for signs of life: receipts come in the order of reports.
    progress_unanswered: u32,
}

/// All items of a worker, by intent id, with what is to be sent about them.
#[derive(Debug, Default)]
pub(super) struct HeldItems {
    items: HashMap<String, Held>,
    running: u32,
    outbox: VecDeque<String>,
    /// What is in the outbox, so that nothing is in it twice.
    queued: HashSet<String>,
    repeats: BTreeSet<(Instant, String)>,
}

impl HeldItems {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn running(&self) -> u32 {
        self.running
    }

    pub(super) fn has_reports(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Takes an item over. Absent when this worker has it already: then the running handler goes on under the new fence, or
    /// its result is sent under it.
    pub(super) fn take(&mut self, intent_id: &str, fence: v1::Fence) -> Option<CancellationToken> {
        if let Some(held) = self.items.get_mut(intent_id) {
            if !matches!(held.state, State::Lost) {
                held.fence = fence;
                held.progress_unanswered = 0;
                if matches!(held.state, State::Finished(_)) {
                    self.queue(intent_id.to_owned());
                }
                return None;
            }
            // Its handler was told to stop. It is ours again before it has; the newest attempt counts.
            held.state = State::Running;
            held.fence = fence;
            held.progress_unanswered = 0;
            return None;
        }
        let lost = CancellationToken::new();
        let held = Held {
            fence,
            state: State::Running,
            lost: lost.clone(),
            progress_unanswered: 0,
        };
        self.items.insert(intent_id.to_owned(), held);
        self.running += 1;
        Some(lost)
    }

    /// The handler has returned.
    pub(super) fn finished(&mut self, intent_id: &str, report: Report) {
        self.running = self.running.saturating_sub(1);
        let Some(held) = self.items.get_mut(intent_id) else {
            return;
        };
        match held.state {
            State::Lost => {
                self.items.remove(intent_id);
            }
            State::Running | State::Finished(_) => {
                held.state = State::Finished(report);
                self.queue(intent_id.to_owned());
            }
        }
    }

    /// A sign of life for everything that runs.
    pub(super) fn renew(&mut self) {
        let running = self
            .items
            .iter()
            .filter(|(_, held)| matches!(held.state, State::Running));
        let ids: Vec<_> = running.map(|(id, _)| id.clone()).collect();
        ids.into_iter().for_each(|id| self.queue(id));
    }

    /// A new connection knows nothing: all items are presented to it.
    pub(super) fn present_all(&mut self) {
        self.outbox.clear();
        self.queued.clear();
        self.repeats.clear();
        let mut ids = Vec::new();
        for (id, held) in &mut self.items {
            held.progress_unanswered = 0;
            if !matches!(held.state, State::Lost) {
                ids.push(id.clone());
            }
        }
        ids.into_iter().for_each(|id| self.queue(id));
    }

    /// Everything that still runs is handed back.
    pub(super) fn hand_back(&mut self, report: &Report) -> u32 {
        let mut ids = Vec::new();
        for (id, held) in &mut self.items {
            if matches!(held.state, State::Running) {
                held.lost.cancel();
                held.state = State::Finished(report.clone());
                ids.push(id.clone());
            }
        }
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        self.running = 0;
        self.items.retain(|_, held| !matches!(held.state, State::Lost));
        ids.into_iter().for_each(|id| self.queue(id));
        count
    }

    /// Tells every handler that its item is gone.
    pub(super) fn lose_all(&mut self) {
        for held in self.items.values_mut() {
            held.lost.cancel();
        }
    }

    /// Reports to send, at most `max`.
    pub(super) fn reports(&mut self, max: usize) -> Vec<v1::WorkReport> {
        let mut reports = Vec::new();
        while reports.len() < max {
            let Some(id) = self.outbox.pop_front() else { break };
            self.queued.remove(&id);
            let Some(held) = self.items.get_mut(&id) else {
                continue;
            };
            let report = match &held.state {
                State::Lost => continue,
                State::Running => {
                    held.progress_unanswered += 1;
                    Report::Progress(v1::Progress {})
                }
                State::Finished(report) => report.clone(),
            };
            reports.push(v1::WorkReport {
                intent_id: id,
                fence: Some(held.fence),
                report: Some(report),
            });
        }
        reports
    }

    /// The server's word on a report.
    pub(super) fn receipt(&mut self, receipt: v1::WorkReceipt) -> Settled {
        let id = receipt.intent_id;
        let Some(held) = self.items.get_mut(&id) else {
            return Settled::No;
        };
        if receipt.fence != Some(held.fence) {
            // It speaks of an attempt that is over.
            return Settled::No;
        }
        let of_progress = held.progress_unanswered > 0;
        held.progress_unanswered = held.progress_unanswered.saturating_sub(1);
        let finished = matches!(held.state, State::Finished(_));
        match receipt.failure {
            None if finished && !of_progress => {
                self.items.remove(&id);
                Settled::Done
            }
            None => Settled::No,
            Some(failure) if failure.retryable => {
                if of_progress {
                    return Settled::No;
                }
                let advice = Duration::from_millis(failure.retry_after_ms.into());
                Settled::Repeat(advice)
            }
            Some(failure) => {
                held.lost.cancel();
                if finished {
                    self.items.remove(&id);
                } else {
                    held.state = State::Lost;
                }
                Settled::Lost(failure.code)
            }
        }
    }

    pub(super) fn repeat_at(&mut self, at: Instant, intent_id: String) {
        self.repeats.insert((at, intent_id));
    }

    pub(super) fn next_repeat(&self) -> Option<Instant> {
        self.repeats.first().map(|(at, _)| *at)
    }

    pub(super) fn queue_repeats(&mut self, now: Instant) {
        while self.repeats.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.repeats.pop_first() {
                self.queue(id);
            }
        }
    }

    fn queue(&mut self, intent_id: String) {
        if self.queued.insert(intent_id.clone()) {
            self.outbox.push_back(intent_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(counter: u64) -> v1::Fence {
        v1::Fence { term: 1, counter }
    }

    fn done() -> Report {
        Report::Complete(v1::Complete { result: None })
    }

    fn receipt(fence: v1::Fence, code: Option<(&str, bool)>) -> v1::WorkReceipt {
        v1::WorkReceipt {
            intent_id: "i".into(),
            fence: Some(fence),
            failure: code.map(|(code, retryable)| v1::Failure {
                code: code.into(),
                retryable,
                ..v1::Failure::default()
            }),
        }
    }

    #[test]
    fn a_receipt_of_a_sign_of_life_does_not_settle_the_result() {
        let mut held = HeldItems::default();
        assert!(held.take("i", fence(1)).is_some());
        held.renew();
        assert!(matches!(held.reports(9)[0].report, Some(Report::Progress(_))));
        held.finished("i", done());
        assert!(matches!(held.reports(9)[0].report, Some(Report::Complete(_))));
        assert_eq!(held.receipt(receipt(fence(1), None)), Settled::No);
        assert_eq!(held.receipt(receipt(fence(1), None)), Settled::Done);
        assert!(held.is_empty());
    }

    #[test]
    fn an_item_that_comes_again_is_not_run_twice() {
        let mut held = HeldItems::default();
        assert!(held.take("i", fence(1)).is_some());
        assert!(held.take("i", fence(2)).is_none());
        held.finished("i", done());
        assert_eq!(held.reports(9)[0].fence, Some(fence(2)));
        // The result was lost on the way, and the server hands the item out anew.
        assert!(held.take("i", fence(3)).is_none());
        let again = held.reports(9);
        assert_eq!((again.len(), again[0].fence), (1, Some(fence(3))));
        assert_eq!(held.receipt(receipt(fence(2), None)), Settled::No);
        assert_eq!(held.receipt(receipt(fence(3), None)), Settled::Done);
    }

    #[test]
    fn a_stale_fence_tells_the_handler_and_drops_its_result() {
        let mut held = HeldItems::default();
        let lost = held.take("i", fence(1)).unwrap();
        held.renew();
        held.reports(9);
        let settled = held.receipt(receipt(fence(1), Some(("stale_attempt", false))));
        assert_eq!(settled, Settled::Lost("stale_attempt".into()));
        assert!(lost.is_cancelled());
        held.finished("i", done());
        assert!(held.is_empty() && held.reports(9).is_empty());
        assert_eq!(held.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_meets_a_full_queue_is_sent_again() {
        let mut held = HeldItems::default();
        held.take("i", fence(1));
        held.finished("i", done());
        held.reports(9);
        let settled = held.receipt(receipt(fence(1), Some(("queue_full", true))));
        assert_eq!(settled, Settled::Repeat(Duration::ZERO));
        held.repeat_at(Instant::now(), "i".into());
        held.queue_repeats(Instant::now());
        assert_eq!(held.reports(9).len(), 1);
    }

    #[test]
    fn a_new_connection_is_shown_everything_once() {
        let mut held = HeldItems::default();
        held.take("i", fence(1));
        held.take("j", fence(2));
        held.finished("j", done());
        held.renew();
        held.present_all();
        assert_eq!(held.reports(9).len(), 2);
        let nak = Report::Nak(v1::Nak::default());
        assert_eq!(held.hand_back(&nak), 1);
        assert!(matches!(held.reports(9)[0].report, Some(Report::Nak(_))));
    }
}
