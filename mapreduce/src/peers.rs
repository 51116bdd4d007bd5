//! How workers are found: those of this process directly, others by their address. What is asked of
//! them is not known here.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use world::{Address, World};

use crate::{client::Client, error::Error, service::Service, worker::Worker};

/// Where a worker is: an address (`unix:/...` or `host:port`), or a name within its process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place {
    /// The machine that it is on; a name within a process stands for itself.
    pub(crate) fn host(&self) -> String {
        self.0.parse::<Address>().map_or_else(|_| self.0.clone(), |address| address.host())
    }
}

impl From<&Address> for Place {
    fn from(address: &Address) -> Self {
        Self(address.to_string())
    }
}

/// The workers that can be reached from here. One for each process; cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    world: World,
    me: Option<wire::Identity>,
    here: Mutex<BTreeMap<Place, Weak<Worker>>>,
    clients: Mutex<BTreeMap<Place, Arc<Client>>>,
}

impl Peers {
    /// `me` is stated to workers of other processes; without it only those of this process are reached.
    #[must_use]
    pub fn new(world: &World, me: Option<wire::Identity>) -> Self {
        let inner =
            Inner { world: world.clone(), me, here: Mutex::default(), clients: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn add(&self, place: &Place, worker: &Arc<Worker>) {
        self.inner.here.lock().insert(place.clone(), Arc::downgrade(worker));
    }

    pub(crate) fn get(&self, place: &Place) -> Result<Arc<dyn Service>, Error> {
        if let Some(worker) = self.inner.here.lock().get(place).and_then(Weak::upgrade) {
            return Ok(worker);
        }
        let refused = |reason: String| Error::Worker { place: place.0.clone(), reason };
        let mut clients = self.inner.clients.lock();
        if let Some(client) = clients.get(place) {
            return Ok(client.clone());
        }
        let me = self.inner.me.ok_or_else(|| refused("it is not in this process".to_owned()))?;
        let address: Address =
            place.0.parse().map_err(|error: world::AddressError| refused(error.to_string()))?;
        let client = Arc::new(Client::new(&self.inner.world, me, &address));
        clients.insert(place.clone(), client.clone());
        Ok(client)
    }
}
