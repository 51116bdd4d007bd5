//! What was typed: the commands and flags of `plumeria`. What they mean is decided elsewhere.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// A distributed file system: many machines mount one tree, coherent and fast.
///
/// Start with `plumeria dev DIR MOUNTPOINT`, which runs a whole cluster in one process on one data
/// directory. CLUSTER, where a command asks for it, is such a data directory, a client
/// configuration file, or the environment variable PLUMERIA_CLUSTER.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 cluster unreachable, 4 damage found.
#[derive(Parser, Debug)]
#[command(name = "plumeria", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
}

/// Flags that every command takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct Everywhere {
    /// Print JSON for scripts instead of tables for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Give up after this long, for instance 500ms, 10s, 2m.
    #[arg(long, global = true, value_name = "D", value_parser = humantime::parse_duration, default_value = "30s")]
    pub(crate) timeout: Duration,
    /// Allow listeners that other machines can reach: nothing is encrypted or authenticated yet.
    #[arg(long, global = true, value_name = "WORD", value_parser = ["insecure"])]
    pub(crate) exposure: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a whole cluster on one data directory and mount it.
    Dev(Dev),
    /// Stop the cluster that `dev` started on a data directory.
    Stop(Stop),
    /// Run one coordinator: a replica of the lock service and of the volume map.
    Coordinator(Role),
    /// Run one block server.
    Block(Role),
    /// Run one MapReduce worker.
    Worker(Role),
    /// Mount a cluster.
    Mount(Mount),
    /// Unmount a mount point of Plumeria.
    Umount(Umount),
    /// Watch over a mount: started by it, hears its beats on standard input, and ends the kernel's
    /// connection if they stay away.
    #[command(hide = true)]
    Watchdog(Watchdog),
    /// Show coordinators, block servers, mounts and workers.
    Status(Status),
    /// Show, add, drain and remove block servers.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Check a volume that nobody has mounted, or the state last written to disk; never writes.
    Fsck(Cluster),
    /// Show and change the consensus groups of the coordinators.
    #[command(subcommand)]
    Raft(Raft),
    /// Show who holds which locks, who waits for whom, and since when; or the lock groups.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Locks(Locks),
    /// Show the sessions of the lock service: mounts, workers, tools.
    Sessions(Cluster),
    /// Look at the registry's nodes, change them, watch them.
    #[command(subcommand)]
    Registry(Registry),
    /// Run MapReduce jobs.
    #[command(subcommand)]
    Mr(Mr),
}

#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// Data directory; made if it is missing. Everything durable lies here.
    pub(crate) dir: PathBuf,
    /// An empty directory to mount on.
    pub(crate) mountpoint: PathBuf,
    /// Coordinators: 1, 3 or 5. Fixed when the data directory is made (then 1 by default).
    #[arg(long, value_name = "N")]
    pub(crate) coordinators: Option<u8>,
    /// Copies of every block: 1, 2 or 3. Fixed when the data directory is made (then 3 by default).
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u8>,
    /// How long a silent mount keeps its locks, at least 2s. Fixed when the data directory is made
    /// (then 30s by default).
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    pub(crate) lease: Option<Duration>,
    /// Consensus groups (shards) among which the locks are divided. Fixed when the data directory is
    /// made (then 1 by default).
    #[arg(long, value_name = "N")]
    pub(crate) lock_shards: Option<u32>,
    /// Run each role as a process of its own, with configuration, pid files and logs under DIR/run.
    #[arg(long)]
    pub(crate) processes: bool,
    /// Return when the mount is usable; stop later with `plumeria stop DIR`.
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Locks {
    #[command(subcommand)]
    pub(crate) what: Option<LockGroups>,
    /// As for `plumeria status`.
    #[arg(env = "PLUMERIA_CLUSTER", required = true)]
    pub(crate) cluster: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum LockGroups {
    /// Show at which shard each lock group lies, and how much there is to do for it.
    Groups(Cluster),
    /// Move a lock group to another shard, while it is in use.
    Move(MoveGroup),
}

#[derive(Args, Debug)]
pub(crate) struct MoveGroup {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// The lock group, 0 to 99.
    pub(crate) group: u8,
    /// The shard that is to serve it from now on.
    pub(crate) shard: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Stop even if other mounts of the cluster live; what they have not written back is lost.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Role {
    /// The role's configuration file; `plumeria dev --processes` writes examples to DIR/run.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// A data directory of `plumeria dev` or a client configuration file.
    #[arg(env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
    /// An empty directory to mount on.
    pub(crate) mountpoint: PathBuf,
    /// Return when the mount is usable; unmount later with `plumeria umount MOUNTPOINT`.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Mount options, separated by commas: ro, sync, nosuid, nodev, noexec, and those of fstab.
    #[arg(short = 'o', value_name = "OPTS", value_delimiter = ',')]
    pub(crate) options: Vec<String>,
    /// Set by `plumeria dev --processes`, which holds the data directory and stops what it started.
    #[arg(long, hide = true)]
    pub(crate) of_dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Watchdog {
    /// The number of the kernel's connection, as below /sys/fs/fuse/connections.
    pub(crate) connection: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Umount {
    /// The mount point.
    pub(crate) mountpoint: PathBuf,
    /// Abort the kernel connection of a mount whose daemon does not answer; what it has not written
    /// back is lost.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// A data directory of `plumeria dev`, a client configuration file, or a path inside a mount.
    #[arg(env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
}

#[derive(Args, Debug)]
pub(crate) struct Cluster {
    /// A data directory of `plumeria dev` or a client configuration file.
    #[arg(env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
}

/// A node of the registry.
#[derive(Args, Debug)]
pub(crate) struct At {
    /// A data directory of `plumeria dev` or a client configuration file.
    pub(crate) cluster: String,
    /// The node, for instance /mounts.
    pub(crate) node: String,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Registry {
    /// List a node's children.
    Ls {
        #[command(flatten)]
        at: At,
    },
    /// Print a node's data.
    Get {
        #[command(flatten)]
        at: At,
    },
    /// Create a node.
    Create {
        #[command(flatten)]
        at: At,
        /// What it says.
        #[arg(default_value = "")]
        data: String,
        /// Create what is missing above it, too.
        #[arg(short, long)]
        parents: bool,
        /// Put a number that only grows behind its name.
        #[arg(long)]
        sequential: bool,
    },
    /// Change a node's data.
    Set {
        #[command(flatten)]
        at: At,
        /// What it says from now on.
        data: String,
        /// Only if it has this version.
        #[arg(long = "if-version", value_name = "N")]
        revision: Option<u64>,
    },
    /// Delete a node that has no children.
    Delete {
        #[command(flatten)]
        at: At,
        /// Only if it has this version.
        #[arg(long = "if-version", value_name = "N")]
        revision: Option<u64>,
    },
    /// Print what happens to a node; each wait ends after --timeout.
    Watch {
        #[command(flatten)]
        at: At,
        /// End after so many changes.
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        count: u64,
        /// Everything below it, too.
        #[arg(long)]
        below: bool,
    },
}

impl Registry {
    /// The cluster.
    pub(crate) fn cluster(&self) -> &str {
        match self {
            Self::Ls { at }
            | Self::Get { at }
            | Self::Create { at, .. }
            | Self::Set { at, .. }
            | Self::Delete { at, .. }
            | Self::Watch { at, .. } => &at.cluster,
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Raft {
    /// Show every node of the groups: what it is, how far it is, who belongs to the group.
    Status(RaftGroup),
    /// Have another coordinator lead.
    Transfer(RaftNode),
    /// Make a coordinator a member. It must be running, with `joining = true` in its configuration;
    /// it is brought up to date before it counts.
    Add(RaftAdd),
    /// Have a coordinator be a member no more; stop it afterwards.
    Remove(RaftNode),
}

#[derive(Args, Debug)]
pub(crate) struct RaftGroup {
    /// A data directory of `plumeria dev`, a client configuration file, or a path inside a mount.
    #[arg(env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
    /// Only this group: `locks` or `map`. All of them by default.
    #[arg(long, value_name = "G")]
    pub(crate) group: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RaftNode {
    #[command(flatten)]
    pub(crate) group: RaftGroup,
    /// The coordinator's number.
    pub(crate) node: u64,
}

#[derive(Args, Debug)]
pub(crate) struct RaftAdd {
    #[command(flatten)]
    pub(crate) node: RaftNode,
    /// Where the coordinator is reached, if the cluster's configuration does not say it.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<world::Address>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ServerCommand {
    /// Show the block servers: what they keep, and what is on its way to them.
    Ls(Cluster),
    /// Let a block server join.
    Add(ServerAdd),
    /// Move all replicas of a block server to others, and wait until that is done.
    Drain(ServerOne),
    /// Take a block server that is empty, or gone for good, out of the cluster.
    Remove(ServerOne),
}

#[derive(Args, Debug)]
pub(crate) struct ServerAdd {
    /// A data directory of `plumeria dev` or a client configuration file.
    #[arg(env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
    /// The server's number.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) server: u64,
    /// Its share of the replicas, relative to the others', which have 100 unless told otherwise.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) weight: u32,
    /// What it is likely to fail together with, a host or a rack: copies go to different ones.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) domain: String,
}

#[derive(Args, Debug)]
pub(crate) struct ServerOne {
    /// A data directory of `plumeria dev` or a client configuration file.
    #[arg(env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
    /// The server's number.
    #[arg(value_name = "ID")]
    pub(crate) server: u64,
    /// With `drain`: return at once.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Mr {
    /// Run one of the jobs that come with Plumeria.
    #[command(subcommand)]
    Run(Job),
    /// Run programs that read and write lines, with the options of Hadoop Streaming (-input, -output,
    /// -mapper, -reducer ...; without any, they are listed).
    Streaming(Streaming),
    /// List the jobs that run.
    Ls(Cluster),
    /// List the jobs that ended not long ago.
    History(Cluster),
    /// Show how far a job is, what runs, what failed and what was counted.
    Status(JobName),
    /// End a job; its output is removed.
    Kill(JobName),
    /// Show what the programs of a job said on standard error.
    Logs(JobName),
}

#[derive(Args, Debug)]
pub(crate) struct JobName {
    /// The job, as `plumeria mr ls` shows it, or the begin of it.
    pub(crate) job: String,
    /// A data directory of `plumeria dev`, a client configuration file, or a path inside a mount.
    #[arg(long, env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: String,
}

#[derive(Args, Debug)]
pub(crate) struct Streaming {
    /// The options of Hadoop Streaming, with one dash.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Job {
    /// Count the words (runs of non-blank bytes) of files and directories.
    Wordcount(Native),
    /// Find the lines that contain a string.
    Grep {
        /// The string, as it is.
        pattern: String,
        #[command(flatten)]
        native: Native,
    },
    /// List, for each word, the files that it is in.
    Index(Native),
    /// Sort records; the parts of the output, one after the other, are in total order.
    Sort {
        /// Records are this many bytes each; otherwise they are lines.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
        record_bytes: Option<u64>,
        /// The key is this many bytes at the begin of a record; otherwise all of it.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
        key_bytes: Option<u64>,
        #[command(flatten)]
        native: Native,
    },
    /// Count how often each URL was asked for, from logs in the Common Log Format.
    Urls(Native),
    /// List, for each target of a link in HTML files, the files that link to it.
    Links(Native),
    /// List, for each host, the most frequent words of its documents, which are lines of URL, tab, text.
    Vectors {
        /// Words of a host.
        #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
        terms: u32,
        #[command(flatten)]
        native: Native,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Native {
    /// Files, directories and patterns inside a mount.
    #[arg(required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// The output directory, inside the same mount; it must not exist yet.
    pub(crate) output: PathBuf,
    /// The cluster, if it is not to be found by the paths.
    #[arg(long, env = "PLUMERIA_CLUSTER")]
    pub(crate) cluster: Option<String>,
    /// Reduce tasks, one output file each (default: 4; 0 for grep, whose lines then keep their order).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) reduces: Option<u32>,
    /// Read files whose names begin with `.` or `_` too.
    #[arg(long)]
    pub(crate) all_files: bool,
    /// Compress the output (part-00000.gz).
    #[arg(long)]
    pub(crate) gzip: bool,
    /// Show the job in a browser of this machine, at this port (0: any that is free) while it runs.
    #[arg(long, value_name = "PORT")]
    pub(crate) page: Option<u16>,
    /// Share of the workers when several jobs run: very_high, high, normal, low, very_low.
    #[arg(long, value_name = "P", default_value = "normal", value_parser = ["very_high", "high", "normal", "low", "very_low"])]
    pub(crate) priority: String,
    /// On any files of this machine, without a cluster.
    #[arg(long)]
    pub(crate) local: bool,
}
