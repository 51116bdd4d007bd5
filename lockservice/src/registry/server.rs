//! What a coordinator does for the registry: passes on to watches what its replica applies, and
//! lets those wait who have seen more than it has. It decides nothing that the tree decides.

use tokio::sync::mpsc;

use super::{
    message::{Change, Happened, Revision, Tidings, Watching},
    tree::Tree,
};

/// How many tidings a watch may lag behind before it is cut.
const LAG: usize = 256;
/// The most watches of one coordinator.
const MOST_WATCHES: usize = 100_000;

struct Watcher {
    watching: Watching,
    sender: mpsc::Sender<Tidings>,
}

/// The watches of one coordinator.
#[derive(Default)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
    tide: Revision,
}

impl Watchers {
    /// A new watch. `None` if there are too many.
    pub(crate) fn add(
        &mut self,
        tree: &mut Tree,
        watching: Watching,
    ) -> Option<mpsc::Receiver<Tidings>> {
        if self.watchers.len() >= MOST_WATCHES {
            return None;
        }
        self.pass_on(tree);
        tree.hear();
        self.tide = tree.revision();
        let (sender, receiver) = mpsc::channel(LAG);
        let missed = watching.since.is_some_and(|since| since < self.tide);
        let (revision, path) = (self.tide, watching.path.clone());
        let resumed = Change { revision, path, happened: Happened::Resumed };
        let changes = if missed { vec![resumed] } else { Vec::new() };
        sender.try_send(Tidings { changes, tide: self.tide }).ok()?;
        self.watchers.push(Watcher { watching, sender });
        Some(receiver)
    }

    /// Ends all watches; their clients watch again.
    pub(crate) fn clear(&mut self, tree: &mut Tree) {
        self.watchers.clear();
        tree.deafen();
    }

    /// Tells everybody what has changed.
    pub(crate) fn pass_on(&mut self, tree: &mut Tree) {
        if self.watchers.is_empty() {
            tree.deafen();
            return;
        }
        if !tree.heard() {
            // The state was replaced by a checkpoint: what happened between is not known here.
            self.watchers.clear();
            return;
        }
        if tree.revision() == self.tide {
            return;
        }
        let changes = tree.drain();
        self.tide = tree.revision();
        self.watchers.retain(|watcher| {
            let wanted = |change: &&Change| watcher.watching.wants(change);
            let changes = changes.iter().filter(wanted).cloned().collect();
            watcher.sender.try_send(Tidings { changes, tide: self.tide }).is_ok()
        });
    }
}
