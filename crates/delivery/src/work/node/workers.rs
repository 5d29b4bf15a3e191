//! The workers of one link: what they want, what they hold, and what the leader is to be told.

use super::mailbox::Mailbox;
use super::pending::Reports;
use crate::hub::Lease;
use crate::settings::{DeliverySettings, WORK_FRAME_BYTES_MAX, WORK_FRAME_ITEMS_MAX};
use baton_protocol::limits::WORK_CREDITS_MAX;
use baton_protocol::proto::internal::{
    AttemptFence, AttemptGrant, AttemptLost, AttemptReceipt, AttemptReport, AttemptVerdict, HeldAttempt,
    WorkUp, WorkerClosed, WorkerCredits, WorkerOpen, WorkerStop, WorkerWritten,
};
use baton_protocol::{ErrorCode, ServiceError, WorkInput, WorkItem, WorkOpen, WorkReceipt};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

/// An item of a worker, until its end is known.
#[derive(Debug)]
struct Item {
    fence: AttemptFence,
    cursor: u64,
    /// When it arrived or was reported on last.
    since: Instant,
}

#[derive(Debug)]
struct Local {
    open: WorkOpen,
    mailbox: Arc<Mailbox>,
    /// Unspent, as the leader will know when all frames have arrived.
    credits: u32,
    items: HashMap<Bytes, Item>,
    /// Reports without receipt.
    pending: usize,
    /// Counter that the leader was told as written.
    marked: u64,
    drains: bool,
    last: bool,
}

/// Survives the connection to a leader.
#[derive(Debug, Default)]
pub(super) struct Workers {
    locals: HashMap<u64, Local>,
    reports: Reports,
    lease: Option<Arc<Lease>>,
    /// To tell: workers that the leader does not know, fresh credits, marks, and ends.
    opens: Vec<u64>,
    credits: HashMap<u64, u32>,
    written: Vec<WorkerWritten>,
    stops: Vec<WorkerStop>,
    /// Workers whose mailbox has changed.
    touched: HashSet<u64>,
}

impl Workers {
    pub(super) fn is_empty(&self) -> bool {
        self.locals.is_empty()
    }

    pub(super) fn unsent(&self) -> usize {
        self.reports.unsent()
    }

    pub(super) fn open(&mut self, worker: u64, open: WorkOpen, mailbox: Arc<Mailbox>) {
        mailbox.set_lease(self.lease.clone());
        let local = Local {
            open,
            mailbox,
            credits: 0,
            items: HashMap::new(),
            pending: 0,
            marked: 0,
            drains: false,
            last: false,
        };
        self.locals.insert(worker, local);
        if self.lease.is_some() {
            self.opens.push(worker);
        }
    }

    pub(super) fn input(&mut self, worker: u64, input: WorkInput, now: Instant) {
        let Some(local) = self.locals.get_mut(&worker) else {
            return;
        };
        if input.credits > 0 && !local.drains {
            let credits = local.credits.saturating_add(input.credits);
            if credits > WORK_CREDITS_MAX {
                let error = ServiceError::new(
                    ErrorCode::InvalidArgument,
                    format!(
                        "more than {WORK_CREDITS_MAX} unspent credits; grant as many as items were taken"
                    ),
                );
                self.end(worker, error);
                return;
            }
            local.credits = credits;
            *self.credits.entry(worker).or_default() += input.credits;
        }
        for mut report in input.reports {
            report.worker = worker;
            local.pending += 1;
            self.reports.add(report, now);
        }
        let stops = (input.drain || input.last) && !local.drains;
        local.drains |= stops;
        local.last |= input.last;
        if stops {
            self.stop(worker, false);
        }
        self.check_end(worker);
    }

    /// The worker's stream is gone.
    pub(super) fn left(&mut self, worker: u64) {
        self.stop(worker, true);
        self.locals.remove(&worker);
    }

    /// Closes a worker with an error.
    fn end(&mut self, worker: u64, error: ServiceError) {
        // What it has not taken goes back first: the mailbox drops it with the end.
        self.left_with(worker, Err(error));
    }

    fn left_with(&mut self, worker: u64, how: Result<(), ServiceError>) {
        let mailbox = self.locals.get(&worker).map(|local| Arc::clone(&local.mailbox));
        self.left(worker);
        if let Some(mailbox) = mailbox {
            mailbox.end(how);
        }
    }

    fn stop(&mut self, worker: u64, gone: bool) {
        let Some(local) = self.locals.get_mut(&worker) else {
            return;
        };
        local.credits = 0;
        self.credits.remove(&worker);
        let (untaken, counter) = local.mailbox.clear_items();
        for item in untaken {
            local.items.remove(&item.intent_id);
        }
        if self.lease.is_some() {
            local.marked = counter;
            self.written.push(WorkerWritten { worker, counter });
            self.stops.push(WorkerStop { worker, gone });
        }
    }

    /// Says "orderly end" to a worker that has nothing left to wait for.
    fn check_end(&mut self, worker: u64) {
        if let Some(local) = self.locals.get(&worker)
            && local.pending == 0
            && (local.last || (local.drains && local.items.is_empty()))
        {
            local.mailbox.end(Ok(()));
        }
    }

    /// A leader is there: everything is said anew.
    pub(super) fn connected(&mut self, lease: &Arc<Lease>) {
        self.lease = Some(Arc::clone(lease));
        for local in self.locals.values_mut() {
            local.mailbox.set_lease(Some(Arc::clone(lease)));
            local.marked = 0;
        }
        self.opens = self.locals.keys().copied().collect();
        self.opens.sort_unstable();
    }

    /// The leader is gone. Items that no worker has taken are its successor's to give.
    pub(super) fn disconnected(&mut self) {
        self.lease = None;
        self.opens.clear();
        self.credits.clear();
        self.written.clear();
        self.stops.clear();
        for local in self.locals.values_mut() {
            for item in local.mailbox.set_lease(None) {
                local.items.remove(&item.intent_id);
                if !local.drains {
                    local.credits += 1;
                }
            }
        }
        let locals = &self.locals;
        let keep = |r: &AttemptReport| locals.contains_key(&r.worker) && r.verdict() != AttemptVerdict::Nak;
        // What is handed back is simply not claimed from the next leader.
        for report in self.reports.resend(keep) {
            self.receive(&report, None);
        }
        self.wake();
    }

    pub(super) fn grant(&mut self, term: u64, grant: AttemptGrant, now: Instant) {
        let Some(local) = self.locals.get_mut(&grant.worker).filter(|l| !l.drains) else {
            // It has stopped, which the leader learns from a frame that is on its way.
            return;
        };
        local.credits = local.credits.saturating_sub(1);
        let fence = AttemptFence {
            term,
            counter: grant.counter,
        };
        let item = Item {
            fence,
            cursor: grant.cursor,
            since: now,
        };
        local.items.insert(grant.intent_id.clone(), item);
        local.mailbox.put_item(WorkItem {
            fence,
            intent_id: grant.intent_id,
            intent: grant.intent,
            payload: grant.payload,
        });
        self.touched.insert(grant.worker);
    }

    pub(super) fn receipt(&mut self, receipt: AttemptReceipt) {
        if let Some(report) = self.reports.answered(receipt.nonce) {
            let error = (receipt.code != 0)
                .then(|| ServiceError::new(ErrorCode::from_number(receipt.code), receipt.message));
            self.receive(&report, error);
        }
    }

    fn receive(&mut self, report: &AttemptReport, error: Option<ServiceError>) {
        let Some(local) = self.locals.get_mut(&report.worker) else {
            return;
        };
        let fence = report.fence.unwrap_or_default();
        let current = local
            .items
            .get_mut(&report.intent_id)
            .filter(|i| i.fence == fence);
        let again = error
            .as_ref()
            .is_some_and(|e| e.code.retryable() || e.code == ErrorCode::Internal);
        let still_held = match (report.verdict(), &error) {
            (AttemptVerdict::Unspecified, _) | (AttemptVerdict::Progress, None) => true,
            // An end is under way.
            (AttemptVerdict::Nak, Some(e)) if e.code == ErrorCode::Conflict => true,
            (
                AttemptVerdict::Progress
                | AttemptVerdict::Nak
                | AttemptVerdict::Complete
                | AttemptVerdict::Fail
                | AttemptVerdict::Terminate,
                _,
            ) => again,
        };
        if let Some(item) = current {
            item.since = Instant::now();
            if !still_held {
                local.items.remove(&report.intent_id);
            }
        }
        local.pending = local.pending.saturating_sub(1);
        local.mailbox.put_receipt(WorkReceipt {
            intent_id: report.intent_id.clone(),
            fence,
            error,
        });
        self.touched.insert(report.worker);
        self.check_end(report.worker);
    }

    pub(super) fn lost(&mut self, lost: &AttemptLost) {
        let Some(local) = self.locals.get_mut(&lost.worker) else {
            return;
        };
        if local
            .items
            .get(&lost.intent_id)
            .is_some_and(|item| Some(item.fence) == lost.fence)
        {
            local.items.remove(&lost.intent_id);
            local.mailbox.remove(&lost.intent_id);
        }
        self.check_end(lost.worker);
    }

    pub(super) fn closed(&mut self, closed: WorkerClosed) {
        let error = ServiceError::new(ErrorCode::from_number(closed.code), closed.message);
        if let Some(local) = self.locals.remove(&closed.worker) {
            local.mailbox.end(Err(error));
        }
    }

    /// Wakes the workers whose mailboxes have changed.
    pub(super) fn wake(&mut self) {
        for worker in self.touched.drain() {
            if let Some(local) = self.locals.get(&worker) {
                local.mailbox.wake();
            }
        }
    }

    /// The lease was renewed: items that waited for that may be taken.
    pub(super) fn wake_all(&self) {
        self.locals.values().for_each(|local| local.mailbox.wake());
    }

    /// What time brings: marks for the leader, and an end for those who do not read or get no answer.
    pub(super) fn sweep(&mut self, settings: &DeliverySettings, now: Instant) {
        let mut ended = Vec::new();
        for (worker, local) in &mut self.locals {
            let taken = local.mailbox.taken();
            if taken > local.marked && self.lease.is_some() {
                local.marked = taken;
                self.written.push(WorkerWritten {
                    worker: *worker,
                    counter: taken,
                });
            }
            let stuck = local.mailbox.is_stuck(settings.work_write_timeout());
            if stuck || local.mailbox.has_left() {
                ended.push(*worker);
            }
        }
        for worker in ended {
            let error = ServiceError::new(
                ErrorCode::Unavailable,
                "the worker did not read its stream for too long; open another one and keep reading",
            );
            self.end(worker, error);
        }
        for report in self.reports.expire(settings.work_report_timeout(), now) {
            let error = ServiceError::new(
                ErrorCode::Timeout,
                "no answer in time and the outcome is unknown; report it again with the same fence",
            );
            self.receive(&report, Some(error));
        }
        self.wake();
    }

    /// The next frame for the leader, if there is anything to tell.
    pub(super) fn next_frame(&mut self, now: Instant) -> Option<WorkUp> {
        self.lease.as_ref()?;
        let mut frame = WorkUp::default();
        let mut items = 0;
        while items < WORK_FRAME_ITEMS_MAX
            && let Some(worker) = self.opens.pop()
        {
            if let Some(local) = self.locals.get(&worker) {
                self.credits.remove(&worker);
                let open = opening(worker, local, now);
                items += 1 + open.held.len();
                frame.open.push(open);
                if local.drains {
                    self.stops.push(WorkerStop { worker, gone: false });
                }
            }
        }
        // Nothing of a worker goes ahead of its opening.
        if !self.opens.is_empty() {
            return Some(frame);
        }
        frame.credits = self
            .credits
            .drain()
            .map(|(worker, credits)| WorkerCredits { worker, credits })
            .collect();
        frame.written = std::mem::take(&mut self.written);
        let mut bytes = 0;
        while items < WORK_FRAME_ITEMS_MAX
            && bytes < WORK_FRAME_BYTES_MAX
            && let Some(report) = self.reports.next()
        {
            items += 1;
            bytes += report.body.as_ref().map_or(0, |b| b.data.len()) + 48;
            frame.reports.push(report);
        }
        // What a worker reported before it stopped counts.
        if self.reports.unsent() == 0 {
            frame.stop = std::mem::take(&mut self.stops);
        }
        (frame != WorkUp::default()).then_some(frame)
    }
}

fn opening(worker: u64, local: &Local, now: Instant) -> WorkerOpen {
    let held = local.items.iter().map(|(intent_id, item)| HeldAttempt {
        intent_id: intent_id.clone(),
        fence: Some(item.fence),
        cursor: item.cursor,
        age_ms: u32::try_from(now.duration_since(item.since).as_millis()).unwrap_or(u32::MAX),
    });
    WorkerOpen {
        worker,
        agent: Some(local.open.agent.clone()),
        actor: Some(local.open.actor.clone()),
        lease_ms: local.open.lease_ms,
        credits: local.credits,
        held: held.collect(),
    }
}
