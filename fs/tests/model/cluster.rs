//! A disk and a lock table in memory, with mounts on them that can die.

use std::{sync::Arc, time::Duration};

use blockstore::{Fence, VirtualDisk, memory::MemoryDisk};
use fs::{
    Config, Fs, Recovery,
    check::{Finding, check},
    mkfs::{Root, format},
};
use lockservice::{Clerk, Locks, local::LocalLocks};
use world::World;

pub(crate) struct Cluster {
    world: World,
    pub(crate) disk: MemoryDisk,
    locks: LocalLocks,
    seed: u64,
}

/// A mounted file system.
pub(crate) struct Mount {
    pub(crate) fs: Arc<Fs>,
    clerk: Arc<Clerk>,
}

impl Cluster {
    pub(crate) async fn new(seed: u64) -> Self {
        let world = World::real();
        let disk = MemoryDisk::new();
        let handle: Arc<dyn VirtualDisk> = disk.open(Fence(0));
        let root = Root { uid: 0, gid: 0, mode: 0o755 };
        format(&world, &handle, root).await.unwrap();
        let locks = LocalLocks::new(world.clone());
        Self { world, disk, locks, seed }
    }

    pub(crate) async fn mount(&self, owner: &str) -> Mount {
        self.mount_with(owner, Duration::from_secs(15)).await
    }

    /// A mount whose operations give up after `patience`.
    pub(crate) async fn mount_with(&self, owner: &str, patience: Duration) -> Mount {
        let clerk = self.locks.open(owner).await.unwrap();
        let disk = self.disk.open(Fence(clerk.session().0));
        let mut config = Config { patience, ..Config::default() };
        // Some caches are so small that clean pages go and dirty ones must be written early; some
        // logs are pushed all the time.
        config.cache_bytes = [512 << 10, 2 << 20, 64 << 20, 64 << 20][self.seed as usize % 4];
        if self.seed % 8 > 3 {
            config.log_push_after = Duration::from_millis(2);
        }
        let fs =
            Fs::new(self.world.clone(), Arc::clone(&disk) as _, Arc::clone(&clerk) as _, config);
        let recovery = Recovery::new(self.world.clone(), disk);
        clerk.attach(Arc::clone(&fs) as _, Some(recovery as _));
        fs.start().await.unwrap();
        Mount { fs, clerk }
    }

    /// Kills all `mounts` as they are, and the power of the disk if there is a seed for what it
    /// keeps; then mounts again, which recovers them.
    pub(crate) async fn crash(&self, mounts: Vec<Mount>, power: Option<u64>) -> Mount {
        for mount in &mounts {
            // The process is gone: nothing that it still does counts.
            self.disk.fence(Fence(mount.clerk.session().0));
        }
        match power {
            Some(seed) => self.disk.crash(seed),
            None => self.disk.mend(),
        }
        for mount in &mounts {
            self.locks.kill(mount.clerk.session()).await.unwrap();
        }
        drop(mounts);
        self.mount("next").await
    }

    /// The volume passes fsck, and nothing was lost. A truncation may be left to be finished.
    pub(crate) async fn check(&self) {
        let report = check(self.disk.open(Fence(0)), None).await.unwrap();
        let bad = report.findings.iter().filter(|f| !matches!(f, Finding::RunPastEnd { .. }));
        let told: Vec<String> = bad.map(Finding::to_string).collect();
        assert!(told.is_empty(), "fsck: {told:#?}");
    }
}
