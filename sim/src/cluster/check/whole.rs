//! F2: after any crash the tree is consistent without repair. Judged by fsck, which looks at everything, when all clients
//! have gone and what the dead left was recovered.

use std::sync::Arc;

use ::blockstore::VirtualDisk;
use ::fs::check;

/// Its name.
pub(in crate::cluster) const NAME: &str = "F2 no crash leaves a tree that needs fsck";

/// What is wrong with a volume that nobody uses.
pub(in crate::cluster) async fn damage(disk: Arc<dyn VirtualDisk>) -> Option<String> {
    match check::check(disk, None).await {
        Ok(report) if report.damage > 0 => Some(format!("{:#?}", report.findings)),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}
