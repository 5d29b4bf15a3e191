//! One node's link to the leader of one group, shared by every listener on the node.

use super::lease::{Lease, Renewals};
use super::listener::Attachment;
use crate::backoff::Backoff;
use crate::frames;
use crate::links::Target;
use crate::ports::Network;
use crate::settings::{DeliverySettings, WINDOW_ITEMS_MAX};
use baton_protocol::proto::internal::{FeedDelivery, FeedKind, FeedPickedUp, FeedRenew, feed_down, feed_up};
use baton_protocol::{ErrorCode, FeedItem, GroupId, IntentId, ServiceError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a pick-up may wait for a leader; a lost one costs one more delivery.
const PICKED_UP_PATIENCE: Duration = Duration::from_secs(2);

/// What the node asks of a link.
#[derive(Debug)]
pub(super) enum Request {
    Attach(oneshot::Sender<Attachment>),
    PickedUp {
        intent_id: IntentId,
        credential: String,
        asked: Instant,
    },
}

impl Request {
    fn wanted(&self) -> bool {
        match self {
            Self::Attach(reply) => !reply.is_closed(),
            Self::PickedUp { asked, .. } => asked.elapsed() < PICKED_UP_PATIENCE,
        }
    }
}

/// Connects when there is something to do, and again when the leader changes. Runs until nobody can ask any more.
pub(super) async fn run(target: Target, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.recv().await {
        if let Some((first, connection)) = connect(&target, first, &mut requests).await {
            connection.serve(first, &mut requests).await;
        }
    }
}

/// Looks for the leader as long as somebody waits.
async fn connect(
    target: &Target,
    first: Request,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<(Request, Connection)> {
    let group = target.group;
    let mut backoff = Backoff::new(Duration::from_millis(25), Duration::from_millis(400));
    let mut waiting = first;
    loop {
        while !waiting.wanted() {
            waiting = requests.try_recv().ok()?;
        }
        let attempt = Connection::open(target.network.as_ref(), group, target.settings);
        match timeout(target.settings.lease(), attempt).await {
            Ok(Ok(connection)) => return Some((waiting, connection)),
            Ok(Err(error)) => debug!(group_id = group.0, %error, "no link to the leader yet"),
            Err(_) => debug!(group_id = group.0, "the leader did not grant a lease in time"),
        }
        sleep(backoff.step()).await;
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
    lost: CancellationToken,
    listeners: HashMap<u64, mpsc::Sender<FeedItem>>,
    last_sub_id: u64,
}

impl Connection {
    async fn open(
        network: &dyn Network,
        group: GroupId,
        settings: DeliverySettings,
    ) -> Result<Self, ServiceError> {
        let (up, mut down) = network
            .open_stream(group, frames::header(FeedKind::Listeners))
            .await?;
        let mut renewals = Renewals::default();
        let renew = FeedRenew {
            nonce: renewals.ask(Instant::now()),
        };
        let refused = || ServiceError::new(ErrorCode::Unavailable, "the leader closed the stream");
        up.send(frames::encode_up(feed_up::Frame::Renew(renew)))
            .await
            .map_err(|_| refused())?;
        // A stream counts as open once the other side has shown that it leads.
        loop {
            let bytes = down.recv().await.ok_or_else(refused)?;
            if let Ok(Some(feed_down::Frame::Lease(lease))) = frames::decode_down(bytes)
                && let Some(until) =
                    renewals.answered(lease.nonce, Duration::from_millis(lease.valid_for_ms.into()))
            {
                return Ok(Self {
                    group,
                    settings,
                    up,
                    down,
                    lease: Arc::new(Lease::new(until)),
                    renewals,
                    lost: CancellationToken::new(),
                    listeners: HashMap::new(),
                    last_sub_id: 0,
                });
            }
        }
    }

    /// Runs until the link is lost or idle. Dropping the connection closes every listener's channel.
    async fn serve(mut self, first: Request, requests: &mut mpsc::Receiver<Request>) {
        let mut renew = interval(self.settings.renew_interval());
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut used = Instant::now();
        self.on_request(first);
        loop {
            let lapses = self.lease.until();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => {
                        used = Instant::now();
                        self.on_request(request);
                    }
                    None => return,
                },
                frame = self.down.recv() => match frame {
                    Some(bytes) => if !self.on_frame(bytes) { return },
                    None => {
                        debug!(group_id = self.group.0, "the leader closed the stream");
                        return;
                    }
                },
                _ = renew.tick() => {
                    self.listeners.retain(|_, queue| !queue.is_closed());
                    if !self.listeners.is_empty() {
                        used = Instant::now();
                    } else if used.elapsed() >= self.settings.link_idle() {
                        return;
                    }
                    self.renew();
                }
                () = sleep_until(lapses) => {
                    debug!(group_id = self.group.0, "the lease has lapsed");
                    return;
                }
            }
        }
    }

    fn renew(&mut self) {
        let nonce = self.renewals.ask(Instant::now());
        // A full stream is not renewed: if it stays full, the lease lapses, as it should.
        let _ = self
            .up
            .try_send(frames::encode_up(feed_up::Frame::Renew(FeedRenew { nonce })));
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Attach(reply) => {
                self.last_sub_id += 1;
                let (queue_tx, queue) = mpsc::channel(WINDOW_ITEMS_MAX);
                let place = Attachment {
                    sub_id: self.last_sub_id,
                    up: self.up.clone(),
                    queue,
                    lease: Arc::clone(&self.lease),
                    lost: self.lost.clone(),
                };
                if reply.send(place).is_ok() {
                    self.listeners.insert(self.last_sub_id, queue_tx);
                }
            }
            Request::PickedUp {
                intent_id,
                credential,
                ..
            } => {
                let frame = FeedPickedUp {
                    intent_id: intent_id.to_bytes(),
                    credential,
                };
                let _ = self
                    .up
                    .try_send(frames::encode_up(feed_up::Frame::PickedUp(frame)));
            }
        }
    }

    /// Whether the stream can go on.
    fn on_frame(&mut self, bytes: Bytes) -> bool {
        match frames::decode_down(bytes) {
            Ok(Some(feed_down::Frame::Delivery(delivery))) => self.on_delivery(delivery),
            Ok(Some(feed_down::Frame::Closed(closed))) => {
                debug!(group_id = self.group.0, reason = %closed.reason, "the leader closed a subscription");
                self.listeners.remove(&closed.sub_id);
            }
            Ok(Some(feed_down::Frame::Lease(lease))) => {
                let valid_for = Duration::from_millis(lease.valid_for_ms.into());
                if let Some(until) = self.renewals.answered(lease.nonce, valid_for) {
                    self.lease.extend(until);
                }
            }
            Ok(None) => {}
            Err(error) => {
                debug!(group_id = self.group.0, %error, "feed frame cannot be decoded");
                return false;
            }
        }
        true
    }

    fn on_delivery(&mut self, delivery: FeedDelivery) {
        let Some(queue) = self.listeners.get(&delivery.sub_id) else {
            return;
        };
        let Some(intent) = delivery.intent else {
            return;
        };
        let item = FeedItem {
            cursor: delivery.cursor,
            intent: Box::new(intent),
            payload: delivery.payload,
            attempt: delivery.attempt,
        };
        // The window makes a full queue impossible; if it happens the listener starts over and misses nothing.
        if queue.try_send(item).is_err() {
            self.listeners.remove(&delivery.sub_id);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.lost.cancel();
    }
}
