//! Managers written for other pools, and the tower service.

#[cfg(feature = "bb8")]
mod bb8 {
    use perf_pool::{Bb8, Pool};

    struct Numbers;

    impl ::bb8::ManageConnection for Numbers {
        type Connection = (u32, bool);
        type Error = std::io::Error;

        async fn connect(&self) -> Result<(u32, bool), std::io::Error> {
            Ok((7, false))
        }

        async fn is_valid(&self, _: &mut (u32, bool)) -> Result<(), std::io::Error> {
            Ok(())
        }

        fn has_broken(&self, connection: &mut (u32, bool)) -> bool {
            connection.1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_of_bb8_works_as_it_is() {
        let pool = Pool::builder(Bb8(Numbers)).max(1).build().unwrap();
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(lease.0, 7);
        lease.1 = true;
        drop(lease);
        drop(pool.acquire().await.unwrap());
        assert_eq!((pool.stats().closed_broken, pool.stats().connected), (1, 2));
    }
}

#[cfg(feature = "deadpool")]
mod deadpool {
    use perf_pool::{Deadpool, Pool};

    struct Numbers;

    impl ::deadpool::managed::Manager for Numbers {
        type Type = u32;
        type Error = std::io::Error;

        async fn create(&self) -> Result<u32, std::io::Error> {
            Ok(0)
        }

        async fn recycle(
            &self,
            uses: &mut u32,
            _: &::deadpool::managed::Metrics,
        ) -> ::deadpool::managed::RecycleResult<std::io::Error> {
            *uses += 1;
            if *uses > 2 { Err(::deadpool::managed::RecycleError::message("worn out")) } else { Ok(()) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_of_deadpool_recycles_before_the_next_use() {
        let pool = Pool::builder(Deadpool(Numbers)).max(1).build().unwrap();
        let mut uses = Vec::new();
        for _ in 0..5 {
            uses.push(*pool.acquire().await.unwrap());
        }
        assert_eq!(uses, [0, 1, 2, 0, 1]);
        assert_eq!(pool.stats().closed_reset_failed, 1);
    }
}

#[cfg(feature = "tower")]
mod tower {
    use crate::fake::{Fake, settle};
    use perf_pool::{Error, Lease, Pool, PooledService};
    use std::future::{Ready, poll_fn, ready};
    use std::task::{Context, Poll};
    use tower_service::Service;

    #[derive(Clone)]
    struct Echo;

    impl Service<(Lease<Fake>, u32)> for Echo {
        type Response = u32;
        type Error = Error;
        type Future = Ready<Result<u32, Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (lease, request): (Lease<Fake>, u32)) -> Self::Future {
            ready(Ok(lease.id * 100 + request))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_gets_a_lease_and_a_reservation_can_be_dropped() {
        let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
        let mut service = PooledService::new(pool.clone(), Echo);
        poll_fn(|context| Service::<u32>::poll_ready(&mut service, context)).await.unwrap();
        assert_eq!(pool.stats().leased, 1);
        assert_eq!(service.call(5).await.unwrap(), 105);
        assert_eq!(pool.stats().leased, 0);

        // Ready, but no request is ever sent: dropping the service gives the connection back.
        poll_fn(|context| Service::<u32>::poll_ready(&mut service, context)).await.unwrap();
        let copy = service.clone();
        drop(service);
        settle().await;
        assert_eq!((pool.stats().leased, pool.stats().idle), (0, 1));
        drop(copy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_readiness_is_refused_not_a_panic() {
        let pool = Pool::builder(Fake::new()).build().unwrap();
        assert!(PooledService::new(pool, Echo).call(1).await.unwrap_err().rejected().is_some());
    }
}
