//! One link per group: whoever asks something of a group's leader on this node shares it.

use crate::ports::Network;
use crate::settings::{DeliverySettings, LINK_QUEUE_ITEMS_MAX};
use baton_protocol::GroupId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where a link leads and how.
pub(crate) struct Target {
    pub(crate) group: GroupId,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) settings: DeliverySettings,
}

/// The links of one kind. Each is a task that takes requests `R` and is started by the first of them.
pub(crate) struct Links<R> {
    network: Arc<dyn Network>,
    settings: DeliverySettings,
    shutdown: CancellationToken,
    runtime: Handle,
    started: Mutex<HashMap<GroupId, mpsc::Sender<R>>>,
}

impl<R: Send + 'static> Links<R> {
    /// Links run on the runtime this is called in, until `shutdown`.
    pub(crate) fn new(
        network: Arc<dyn Network>,
        settings: DeliverySettings,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            network,
            settings,
            shutdown,
            runtime: Handle::current(),
            started: Mutex::new(HashMap::new()),
        }
    }

    /// The group's link; `run` becomes its task if there is none yet. The channel closes at shutdown.
    pub(crate) fn to<F>(
        &self,
        group: GroupId,
        run: impl FnOnce(Target, mpsc::Receiver<R>) -> F,
    ) -> mpsc::Sender<R>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (requests, queue) = mpsc::channel(LINK_QUEUE_ITEMS_MAX);
            let target = Target {
                group,
                network: Arc::clone(&self.network),
                settings: self.settings,
            };
            let task = self
                .shutdown
                .clone()
                .run_until_cancelled_owned(run(target, queue));
            self.runtime.spawn(task);
            requests
        };
        started.entry(group).or_insert_with(start).clone()
    }

    pub(crate) fn settings(&self) -> &DeliverySettings {
        &self.settings
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
