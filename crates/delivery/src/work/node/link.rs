//! One node's link to the leader of one group, for all its workers on that group's agents.

use super::mailbox::Mailbox;
use super::workers::Workers;
use crate::backoff::Backoff;
use crate::frames;
use crate::hub::{Lease, Renewals};
use crate::links::Target;
use crate::ports::Network;
use crate::settings::{DeliverySettings, WORK_PROPOSALS_WAITING_MAX};
use baton_protocol::proto::internal::{FeedKind, WorkDown, WorkUp};
use baton_protocol::{ErrorCode, GroupId, ServiceError, WorkInput, WorkOpen};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tracing::debug;

/// How often a link looks at its workers' mailboxes.
const TICK: Duration = Duration::from_millis(100);
/// Requests or frames taken in one go before what they led to is sent.
const ROUND_MAX: usize = 256;

/// What the workers of the node ask of a link.
#[derive(Debug)]
pub(super) enum Request {
    Open {
        worker: u64,
        open: Box<WorkOpen>,
        mailbox: Arc<Mailbox>,
    },
    Input {
        worker: u64,
        input: WorkInput,
    },
    Left {
        worker: u64,
    },
}

/// Connects while there are workers, and again when the leader changes. Runs until nobody can ask any more.
pub(super) async fn run(target: Target, mut requests: mpsc::Receiver<Request>) {
    let mut workers = Workers::default();
    while let Some(first) = requests.recv().await {
        on_request(&mut workers, first);
        while !workers.is_empty() {
            let Some(connection) = connect(&target, &mut workers, &mut requests).await else {
                break;
            };
            workers.connected(&connection.lease);
            connection.serve(&mut workers, &mut requests).await;
            workers.disconnected();
        }
    }
}

/// Looks for the leader as long as there are workers, and listens to them meanwhile.
async fn connect(
    target: &Target,
    workers: &mut Workers,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<Connection> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut search = Box::pin(search(target));
    loop {
        tokio::select! {
            found = &mut search => return Some(found),
            request = requests.recv(), if workers.unsent() < WORK_PROPOSALS_WAITING_MAX => {
                on_request(workers, request?);
                if workers.is_empty() {
                    return None;
                }
            }
            _ = tick.tick() => workers.sweep(&target.settings, Instant::now()),
        }
    }
}

async fn search(target: &Target) -> Connection {
    let group = target.group;
    let mut backoff = Backoff::new(Duration::from_millis(25), Duration::from_millis(400));
    loop {
        let attempt = Connection::open(target.network.as_ref(), group, target.settings);
        match timeout(target.settings.lease(), attempt).await {
            Ok(Ok(connection)) => return connection,
            Ok(Err(error)) => debug!(group_id = group.0, %error, "no work link to the leader yet"),
            Err(_) => debug!(group_id = group.0, "the leader did not grant a lease in time"),
        }
        sleep(backoff.step()).await;
    }
}

fn on_request(workers: &mut Workers, request: Request) {
    match request {
        Request::Open {
            worker,
            open,
            mailbox,
        } => workers.open(worker, *open, mailbox),
        Request::Input { worker, input } => workers.input(worker, input, Instant::now()),
        Request::Left { worker } => workers.left(worker),
    }
}

/// An open stream with a lease.
struct Connection {
    group: GroupId,
    settings: DeliverySettings,
    up: mpsc::Sender<Bytes>,
    down: mpsc::Receiver<Bytes>,
    lease: Arc<Lease>,
    renewals: Renewals,
    /// Did not fit into the stream.
    unsent: Option<Bytes>,
}

impl Connection {
    async fn open(
        network: &dyn Network,
        group: GroupId,
        settings: DeliverySettings,
    ) -> Result<Self, ServiceError> {
        let header = frames::header(FeedKind::Workers);
        let (up, mut down) = network.open_stream(group, header).await?;
        let mut renewals = Renewals::default();
        let ask = WorkUp {
            renew: renewals.ask(Instant::now()),
            ..WorkUp::default()
        };
        let refused = || ServiceError::new(ErrorCode::Unavailable, "the leader closed the stream");
        up.send(ask.encode_to_vec().into()).await.map_err(|_| refused())?;
        // A stream counts as open once the other side has shown that it leads.
        loop {
            let bytes = down.recv().await.ok_or_else(refused)?;
            let frame = WorkDown::decode(bytes).map_err(|_| refused())?;
            let valid_for = Duration::from_millis(frame.valid_for_ms.into());
            if let Some(until) = renewals.answered(frame.renewed, valid_for) {
                return Ok(Self {
                    group,
                    settings,
                    up,
                    down,
                    lease: Arc::new(Lease::new(until)),
                    renewals,
                    unsent: None,
                });
            }
        }
    }

    /// Runs until the link is lost or has had no workers for a while.
    async fn serve(mut self, workers: &mut Workers, requests: &mut mpsc::Receiver<Request>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renew_at = Instant::now() + self.settings.renew_interval();
        let mut used = Instant::now();
        loop {
            let lapses = self.lease.until();
            let reads = workers.unsent() < WORK_PROPOSALS_WAITING_MAX;
            let up = self.up.clone();
            tokio::select! {
                frame = self.down.recv() => match frame {
                    Some(bytes) => if !self.on_frame(workers, bytes) { return },
                    None => {
                        debug!(group_id = self.group.0, "the leader closed the stream");
                        return;
                    }
                },
                request = requests.recv(), if reads => match request {
                    Some(request) => on_request(workers, request),
                    None => return,
                },
                permit = up.reserve(), if self.unsent.is_some() => match permit {
                    Ok(permit) => if let Some(frame) = self.unsent.take() { permit.send(frame) },
                    Err(_) => return,
                },
                _ = tick.tick() => workers.sweep(&self.settings, Instant::now()),
                () = sleep_until(lapses) => {
                    debug!(group_id = self.group.0, "the lease has lapsed");
                    return;
                }
            }
            let now = Instant::now();
            if !self.take_more(workers, requests) || !self.flush(workers, &mut renew_at, now) {
                return;
            }
            if !workers.is_empty() {
                used = now;
            } else if now.duration_since(used) >= self.settings.link_idle() {
                return;
            }
        }
    }

    /// Takes whatever else is there, so that it travels together. Whether the stream can go on.
    fn take_more(&mut self, workers: &mut Workers, requests: &mut mpsc::Receiver<Request>) -> bool {
        for _ in 0..ROUND_MAX {
            let Ok(bytes) = self.down.try_recv() else { break };
            if !self.on_frame(workers, bytes) {
                return false;
            }
        }
        for _ in 0..ROUND_MAX {
            if workers.unsent() >= WORK_PROPOSALS_WAITING_MAX {
                break;
            }
            let Ok(request) = requests.try_recv() else { break };
            on_request(workers, request);
        }
        workers.wake();
        true
    }

    /// Sends what there is to tell. Whether the stream can go on.
    fn flush(&mut self, workers: &mut Workers, renew_at: &mut Instant, now: Instant) -> bool {
        while self.unsent.is_none() {
            let mut frame = workers.next_frame(now);
            if now >= *renew_at {
                *renew_at = now + self.settings.renew_interval();
                frame.get_or_insert_default().renew = self.renewals.ask(now);
            }
            let Some(frame) = frame else {
                return true;
            };
            match self.up.try_send(frame.encode_to_vec().into()) {
                Ok(()) => {}
                Err(TrySendError::Full(frame)) => self.unsent = Some(frame),
                Err(TrySendError::Closed(_)) => return false,
            }
        }
        true
    }

    /// Whether the stream can go on.
    fn on_frame(&mut self, workers: &mut Workers, bytes: Bytes) -> bool {
        let frame = match WorkDown::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                debug!(group_id = self.group.0, %error, "work frame cannot be decoded");
                return false;
            }
        };
        let now = Instant::now();
        let valid_for = Duration::from_millis(frame.valid_for_ms.into());
        if frame.renewed != 0
            && let Some(until) = self.renewals.answered(frame.renewed, valid_for)
        {
            let lapsed = !self.lease.is_valid();
            self.lease.extend(until);
            if lapsed {
                workers.wake_all();
            }
        }
        for grant in frame.grants {
            workers.grant(frame.term, grant, now);
        }
        for receipt in frame.receipts {
            workers.receipt(receipt);
        }
        for lost in &frame.lost {
            workers.lost(lost);
        }
        for closed in frame.closed {
            workers.closed(closed);
        }
        true
    }
}
