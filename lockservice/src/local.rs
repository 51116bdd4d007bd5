//! A lock service in this process and in memory, for tests of whoever uses locks: several real
//! clerks on one table, without raft. Leases last a day, so only [`LocalLocks::kill`] ends a
//! session.

use std::{sync::Arc, time::Duration};

use world::World;

use crate::{
    clerk::{Clerk, Config},
    engine::{Direct, Engine},
    error::Error,
    message::{Command, Kind},
    name::SessionId,
    server::{self, Server},
    table::{Broken, Table},
};

const LEASE: Duration = Duration::from_secs(24 * 3600);

/// The service; it ends when it is dropped.
pub struct LocalLocks {
    world: World,
    engine: Arc<Direct>,
    server: Arc<Server>,
}

impl LocalLocks {
    /// An empty table. Must be called inside the runtime of `world`.
    #[must_use]
    pub fn new(world: World) -> Self {
        let engine = Arc::new(Direct::default());
        let config = server::Config { lease: LEASE };
        let server = Server::start(world.clone(), Arc::clone(&engine) as _, config);
        Self { world, engine, server }
    }

    /// A new session, able to recover others. Attach a holder to it, or nothing that others want
    /// is ever given up.
    ///
    /// # Errors
    /// None that a test should expect.
    pub async fn open(&self, owner: &str) -> Result<Arc<Clerk>, Error> {
        let config = Config {
            owner: owner.to_owned(),
            host: "localhost".to_owned(),
            kind: Kind::Mount,
            replace: false,
            patience: Some(Duration::from_secs(20)),
        };
        Clerk::open(self.world.clone(), Arc::clone(&self.server) as _, config).await
    }

    /// Ends a session as if its lease had run out: its holder is told, its locks stay until a live
    /// session has recovered it.
    ///
    /// # Errors
    /// None that a test should expect.
    pub async fn kill(&self, session: SessionId) -> Result<(), Error> {
        let now = self.world.clock.now();
        self.engine.propose(Command::Expire(session), now + LEASE).await.map(|_| ())
    }

    /// The service itself, for clerks with a configuration of their own.
    #[must_use]
    pub fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    /// Checks the invariants of the table.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let mut result = Ok(());
        self.engine.look(&mut |table: &mut Table| result = table.check());
        result
    }
}
