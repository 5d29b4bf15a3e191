//! Lookups of names, bounded: they run on threads that everybody shares, and cannot be given up.

use super::connect::Resolver;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Names that are looked up at the same time.
const LOOKUPS_MAX: usize = 64;

type Found = Result<Arc<[SocketAddr]>, (io::ErrorKind, Arc<str>)>;
type Lookup = Shared<BoxFuture<'static, Found>>;
type UnderWay = Arc<Mutex<HashMap<(String, u16), Lookup>>>;

/// Looks a name up once for everybody who asks at the same time, so that a slow one costs one thread however many posts
/// wait for it, and comes back in time or not at all.
pub(crate) struct BoundedLookups {
    inner: Arc<dyn Resolver>,
    under_way: UnderWay,
    places: Arc<Semaphore>,
}

impl BoundedLookups {
    pub(crate) fn new(inner: Arc<dyn Resolver>) -> Self {
        Self {
            inner,
            under_way: UnderWay::default(),
            places: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    fn lookup(&self, host: &str, port: u16) -> Lookup {
        let name = (host.to_owned(), port);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = under_way.get(&name) {
            return known.clone();
        }
        let (inner, places) = (Arc::clone(&self.inner), Arc::clone(&self.places));
        let (asked, all) = (name.clone(), Arc::clone(&self.under_way));
        // A task of its own: the thread is busy until the answer comes, whoever still waits for it.
        let task = tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            let found = inner.resolve(&asked.0, asked.1).await;
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&asked);
            match found {
                Ok(addresses) => Ok(Arc::from(addresses)),
                Err(error) => Err((error.kind(), Arc::from(error.to_string()))),
            }
        });
        let lookup = async move {
            let broken = |_| Err((io::ErrorKind::Other, Arc::from("the lookup broke")));
            task.await.unwrap_or_else(broken)
        };
        let lookup = lookup.boxed().shared();
        under_way.insert(name, lookup.clone());
        lookup
    }
}

#[async_trait]
impl Resolver for BoundedLookups {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.lookup(host, port).await {
            Ok(addresses) => Ok(addresses.to_vec()),
            Err((kind, message)) => Err(io::Error::new(kind, message.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::time::timeout;

    /// `slow` never answers; any other name does.
    struct Names(Arc<AtomicUsize>);

    #[async_trait]
    impl Resolver for Names {
        async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            if host.starts_with("slow") {
                std::future::pending::<()>().await;
            }
            match host {
                "missing" => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_name_takes_one_place_and_others_are_found() {
        let asked = Arc::new(AtomicUsize::new(0));
        let lookups = BoundedLookups::new(Arc::new(Names(Arc::clone(&asked))));
        for _ in 0..LOOKUPS_MAX * 2 {
            let slow = timeout(Duration::from_secs(1), lookups.resolve("slow", 443)).await;
            assert!(slow.is_err());
        }
        assert_eq!(
            asked.load(Ordering::SeqCst),
            1,
            "who gives up and asks again waits for the same answer"
        );
        let found = lookups.resolve("good", 80).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 80))]);
        let missing = lookups.resolve("missing", 80).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        lookups.resolve("good", 80).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 4, "nothing is kept");
        assert_eq!(lookups.under_way.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_slow_names_are_bounded() {
        let asked = Arc::new(AtomicUsize::new(0));
        let lookups = BoundedLookups::new(Arc::new(Names(Arc::clone(&asked))));
        for n in 0..LOOKUPS_MAX + 9 {
            let name = format!("slow-{n}");
            let slow = lookups.resolve(&name, 443);
            assert!(timeout(Duration::from_secs(1), slow).await.is_err());
        }
        assert_eq!(asked.load(Ordering::SeqCst), LOOKUPS_MAX);
    }
}
