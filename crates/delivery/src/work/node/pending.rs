//! Reports that have no receipt yet. They are kept to be said again to the next leader.

use baton_protocol::proto::internal::AttemptReport;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
struct Pending {
    report: AttemptReport,
    since: Instant,
}

/// Reports of all workers on one link, by nonce.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last_nonce: u64,
    pending: BTreeMap<u64, Pending>,
    unsent: VecDeque<u64>,
}

impl Reports {
    pub(super) fn add(&mut self, mut report: AttemptReport, now: Instant) {
        self.last_nonce += 1;
        report.nonce = self.last_nonce;
        self.unsent.push_back(report.nonce);
        let pending = Pending { report, since: now };
        self.pending.insert(self.last_nonce, pending);
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// The next report to send; it stays pending.
    pub(super) fn next(&mut self) -> Option<AttemptReport> {
        while let Some(nonce) = self.unsent.pop_front() {
            if let Some(pending) = self.pending.get(&nonce) {
                return Some(pending.report.clone());
            }
        }
        None
    }

    /// The report that a receipt answers.
    pub(super) fn answered(&mut self, nonce: u64) -> Option<AttemptReport> {
        self.pending.remove(&nonce).map(|p| p.report)
    }

    /// Everything is to be sent again, without the reports that `keep` refuses, which are returned.
    pub(super) fn resend(&mut self, keep: impl Fn(&AttemptReport) -> bool) -> Vec<AttemptReport> {
        let dropped = self.take(|pending| !keep(&pending.report));
        self.unsent = self.pending.keys().copied().collect();
        dropped
    }

    /// Takes out what has waited too long.
    pub(super) fn expire(&mut self, patience: Duration, now: Instant) -> Vec<AttemptReport> {
        // Nonces are in the order of time: nothing after the first young one is old.
        match self.pending.first_key_value() {
            Some((_, oldest)) if now.duration_since(oldest.since) >= patience => {
                self.take(|pending| now.duration_since(pending.since) >= patience)
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn take(&mut self, wanted: impl Fn(&Pending) -> bool) -> Vec<AttemptReport> {
        let nonces: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| wanted(pending))
            .map(|(nonce, _)| *nonce)
            .collect();
        nonces.iter().filter_map(|nonce| self.answered(*nonce)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(worker: u64) -> AttemptReport {
        AttemptReport {
            worker,
            ..AttemptReport::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_receipt_is_sent_again_and_expires_at_last() {
        let patience = Duration::from_secs(10);
        let mut reports = Reports::default();
        for worker in [1, 2, 3] {
            reports.add(report(worker), Instant::now());
        }
        let sent: Vec<_> = std::iter::from_fn(|| reports.next()).collect();
        assert_eq!(sent.iter().map(|r| r.nonce).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(reports.answered(2).unwrap().worker, 2);
        assert!(reports.answered(2).is_none(), "one receipt each");
        assert!(reports.resend(|r| r.worker != 1).iter().all(|r| r.worker == 1));
        assert_eq!(reports.next().unwrap().nonce, 3);
        assert!(reports.expire(patience, Instant::now()).is_empty());
        tokio::time::advance(patience).await;
        assert_eq!(reports.expire(patience, Instant::now()).len(), 1);
        assert!(reports.next().is_none());
    }
}
