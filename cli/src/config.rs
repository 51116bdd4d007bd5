//! Configuration files: what each role and each client must know of the cluster. Written by
//! `plumeria dev --processes`, by hand otherwise; unknown keys are refused.

use std::{path::Path, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use world::Address;

use crate::failure::{Failure, Kind, OrFail as _, Outcome};

/// A node and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) node: u64,
    #[serde(with = "text")]
    pub(crate) address: Address,
}

/// What every client of a cluster must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    /// The cluster's id, 32 hexadecimal digits.
    #[serde(with = "hex")]
    pub(crate) cluster: u128,
    /// How long a silent mount keeps its locks.
    #[serde(with = "duration")]
    pub(crate) lease: Duration,
    pub(crate) coordinators: Vec<Peer>,
    /// Consensus groups among which the locks are divided. It may grow when all are restarted.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) lock_shards: u32,
    #[serde(default)]
    pub(crate) workers: Vec<Peer>,
}

pub(crate) const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) const fn is_one(shards: &u32) -> bool {
    *shards == 1
}

/// A coordinator's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Coordinator {
    pub(crate) node: u64,
    /// Its data directory.
    pub(crate) dir: PathBuf,
    /// Copies of every block.
    pub(crate) replicas: u8,
    /// Block servers that the cluster is made of.
    pub(crate) servers: Vec<u64>,
    /// It joins a cluster that runs already: it waits for `plumeria raft add`. Counts only until it
    /// has stored something.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) joining: bool,
    pub(crate) client: Client,
}

/// A block server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Block {
    pub(crate) node: u64,
    /// Its data directory.
    pub(crate) dir: PathBuf,
    #[serde(with = "text")]
    pub(crate) listen: Address,
    pub(crate) client: Client,
}

/// A worker's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worker {
    pub(crate) node: u64,
    /// Where it keeps map output while a job runs; deleted afterwards.
    pub(crate) scratch: PathBuf,
    pub(crate) client: Client,
}

/// Reads a configuration file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Outcome<T> {
    let text = std::fs::read_to_string(path).or_fail(Kind::Usage, || {
        format!("cannot read the configuration file {}", path.display())
    })?;
    toml::from_str(&text)
        .or_fail(Kind::Usage, || format!("{} is not a valid configuration", path.display()))
}

/// Writes a configuration file.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Outcome {
    let text =
        toml::to_string(value).or_fail(Kind::Failed, || "cannot encode a configuration".into())?;
    std::fs::write(path, text).or_fail(Kind::Failed, || format!("cannot write {}", path.display()))
}

impl Client {
    /// The configuration of the cluster that `name` stands for: a data directory, a file, or a path
    /// inside a mount.
    pub(crate) fn find(name: &str) -> Outcome<Self> {
        let path = Path::new(name);
        if path.join("run/client.toml").is_file() {
            return read(&path.join("run/client.toml"));
        }
        if path.is_file() && path.extension().is_some_and(|extension| extension == "toml") {
            return read(path);
        }
        if let Ok(path) = path.canonicalize()
            && let Some(mounted) = crate::mounts::holding(&path)?
        {
            return read(&mounted.source);
        }
        if path.join("plumeria.toml").is_file() {
            let message = format!(
                "the cluster in {name} is not running: start it with `plumeria dev {name} MOUNTPOINT`"
            );
            return Err(Failure::new(Kind::Unreachable, message));
        }
        let message = format!(
            "{name:?} is no cluster: give a data directory of `plumeria dev`, a client configuration file, or a path inside a mount"
        );
        Err(Failure::usage(message))
    }
}

mod text {
    //! Addresses as text.
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use world::Address;

    pub(super) fn serialize<S: Serializer>(value: &Address, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

pub(crate) mod duration {
    //! Durations as text, for instance `30s`.
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

pub(crate) mod hex {
    //! Cluster ids as 32 hexadecimal digits.
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:032x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(from)?, 16).map_err(D::Error::custom)
    }
}
