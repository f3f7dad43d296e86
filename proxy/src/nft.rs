//! Running nft: one process per transaction, the script on its standard input. The only thing here that touches the kernel.

use corten_base::command::{CommandError, run};

/// Applies a script as one transaction.
pub async fn apply(script: &str) -> Result<(), CommandError> {
    run("nft", &["-f", "-"], script).await.map(drop)
}
