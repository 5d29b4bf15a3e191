//! Everything a node does for one group that it leads.

use crate::dispatch::{Dispatcher, GroupDispatch};
use crate::notify::{NoticeGroup, Notifier};
use crate::ports::{AppliedFeed, AppliedNotice, LedGroup, Network};
use crate::push::{Push, PushGroup};
use crate::settings::DeliverySettings;
use crate::work::WorkGroup;
use crate::{outbox, pulse};
use baton_state_machine::{Applied, Effect};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Pulse loop, outbox pump and agent dispatch of one led group, for one term.
pub struct GroupService {
    led: Arc<dyn LedGroup>,
    network: Arc<dyn Network>,
    settings: DeliverySettings,
    dispatcher: Arc<Dispatcher>,
    push: Option<Arc<Push>>,
    notifier: Option<Arc<Notifier>>,
}

impl std::fmt::Debug for GroupService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupService")
            .field("group_id", &self.led.group_id())
            .field("term", &self.led.term())
            .finish_non_exhaustive()
    }
}

impl GroupService {
    /// A service for `led`; listeners reach it through `dispatcher`, the one of this node.
    #[must_use]
    pub fn new(
        led: Arc<dyn LedGroup>,
        network: Arc<dyn Network>,
        settings: DeliverySettings,
        dispatcher: Arc<Dispatcher>,
    ) -> Self {
        Self {
            led,
            network,
            settings,
            dispatcher,
            push: None,
            notifier: None,
        }
    }

    /// People outside are told what waits for them.
    #[must_use]
    pub fn with_notifier(self, notifier: Option<Arc<Notifier>>) -> Self {
        Self { notifier, ..self }
    }

    /// Deliveries of push agents are posted, too.
    #[must_use]
    pub fn with_push(self, push: Arc<Push>) -> Self {
        Self {
            push: Some(push),
            ..self
        }
    }

    /// Runs until the leadership ends or `shutdown` is cancelled, then closes every listener's stream.
    pub async fn run(self, shutdown: CancellationToken) {
        let led = self.led.as_ref();
        let (group_id, term) = (led.group_id().0, led.term());
        // Subscribed before any table is read: nothing can fall in between.
        let feed = led.applied();
        let wake = Wake::default();
        let directory = self.push.as_ref().map(|push| Arc::clone(&push.directory));
        let dispatch = GroupDispatch::new(Arc::clone(&self.led), self.settings, directory);
        // Streams end even if this future is dropped halfway.
        let _streams = dispatch.stop.clone().drop_guard();
        let workers = WorkGroup::start(&dispatch, Arc::clone(&self.network), self.settings);
        let _work_streams = workers.stop.clone().drop_guard();
        let registration = self.dispatcher.register(&dispatch, &workers);
        debug!(group_id, term, "delivery starts");
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = led.leadership_ended() => {}
            () = follow(feed, &wake, &dispatch) => {}
            () = Box::pin(pulse::run(led, &wake.timer)) => {}
            () = Box::pin(outbox::run(led, self.network.as_ref(), &wake.outbox)) => {}
            () = Box::pin(dispatch.keep_time()) => {}
            () = Box::pin(self.push(&dispatch)) => {}
            () = Box::pin(self.notify()) => {}
        }
        drop(registration);
        dispatch.close().await;
        workers.close().await;
        debug!(group_id, term, "delivery ends");
    }
}

impl GroupService {
    /// Returns only when there is nothing to follow any more.
    async fn push(&self, dispatch: &Arc<GroupDispatch>) {
        let Some(push) = &self.push else {
            return std::future::pending().await;
        };
        let (led, network) = (Arc::clone(&self.led), Arc::clone(&self.network));
        PushGroup::new(Arc::clone(push), led, network, Arc::clone(dispatch))
            .run()
            .await;
    }
}

impl GroupService {
    /// As [`Self::push`].
    async fn notify(&self) {
        let Some(notifier) = &self.notifier else {
            return std::future::pending().await;
        };
        NoticeGroup::new(Arc::clone(notifier), Arc::clone(&self.led))
            .run()
            .await;
    }
}

#[derive(Debug, Default)]
struct Wake {
    timer: Notify,
    outbox: Notify,
}

/// Hands effects to whom they concern. Ends when the feed is closed.
async fn follow(mut feed: Box<dyn AppliedFeed>, wake: &Wake, dispatch: &GroupDispatch) {
    loop {
        match feed.next().await {
            AppliedNotice::Entry(applied) => on_entry(&applied, wake, dispatch),
            AppliedNotice::Lagged => {
                wake.timer.notify_one();
                wake.outbox.notify_one();
                dispatch.resync();
            }
            AppliedNotice::Closed => return,
        }
    }
}

fn on_entry(applied: &Applied, wake: &Wake, dispatch: &GroupDispatch) {
    for effect in &applied.effects {
        match effect {
            Effect::Timer { .. } => wake.timer.notify_one(),
            Effect::Send { .. } => wake.outbox.notify_one(),
            Effect::Deliver { .. }
            | Effect::Withdraw { .. }
            | Effect::PickedUp { .. }
            | Effect::Limit { .. }
            | Effect::Replay { .. }
            | Effect::Endpoint { .. }
            | Effect::Notice
            | Effect::Meta { .. } => {}
        }
    }
    dispatch.on_applied(applied);
}
